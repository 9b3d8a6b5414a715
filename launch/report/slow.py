"""How does the report show what a step spends its time on?

Rule: one bar a rank, all on one scale, so that the slow one stands out; parts that take no time are
left out. It needs no script.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from launch.report.model import Report
from launch.runs.slowness import PARTS, Ranks, step_parts
from launch.text.quantities import seconds_text, share_text

MOST_RANKS = 32
"""Bars; of more ranks the slowest computing and reading ones are shown, since the others wait."""
SMALLEST = 0.002
"""Share of a step below which a part is neither seen nor told."""
_WORDS = {
    "input": "waiting for batches",
    "compute": "computing",
    "exchange": "exchanging, and waiting for the slowest",
    "apply": "applying",
    "save": "copying the state for saves, or sending it",
    "other": "between two steps",
}
_CLASSES = {"save": "save_part"}
"""The others' classes are their names; a save is drawn elsewhere."""


def slow_section(report: Report) -> str:
    """The section as HTML; empty where the journal tells no times."""
    ranks = {rank: parts for rank, parts in report.step_times.items() if parts.get("all", 0) > 0}
    if not ranks:
        return ""
    mean = step_parts(ranks)
    shown = [name for name in PARTS if mean[name] / mean["all"] >= SMALLEST]
    bars = "".join(_bar(rank, ranks[rank], shown, _longest(ranks)) for rank in _chosen(ranks))
    legend = "".join(
        f'<li><i class="{_CLASSES.get(name, name)}"></i>{_WORDS[name]} '
        f"<span>{share_text(mean[name] / mean['all'])}, {seconds_text(mean[name])}</span></li>"
        for name in shown
    )
    more = len(ranks) - min(len(ranks), MOST_RANKS)
    rest = f'<p class="quiet">and {more} ranks more</p>' if more else ""
    return (
        '<section class="card" aria-labelledby="h-slow"><h2 id="h-slow">What a step takes</h2>'
        f'<p class="quiet">{escape(seconds_text(mean["all"]))} a step lately; {escape(report.why_slow)}.</p>'
        f'<div class="ranks">{bars}</div>{rest}<ul class="legend">{legend}</ul></section>'
    )


def _longest(ranks: Ranks) -> float:
    return max(parts["all"] for parts in ranks.values())


def _chosen(ranks: Ranks) -> list[str]:
    """The ranks to show, in their order."""
    slowest = sorted(ranks, key=lambda rank: ranks[rank].get("exchange", 0.0))[:MOST_RANKS]
    return sorted(slowest, key=lambda rank: (len(rank), rank))


def _bar(rank: str, parts: Mapping[str, float], shown: list[str], longest: float) -> str:
    told = ", ".join(f"{name} {seconds_text(parts.get(name, 0.0))}" for name in shown)
    pieces = "".join(
        f'<i class="{_CLASSES.get(name, name)}" style="flex-grow:{parts.get(name, 0.0) / parts["all"]:.4f}"></i>'
        for name in shown
        if parts.get(name, 0.0) > 0
    )
    width = f"{100 * parts['all'] / longest:.1f}%"
    return (
        f'<span>rank {escape(rank)}</span><div class="bar" style="width:{width}" role="img" '
        f'aria-label="{escape(told, quote=True)}" title="{escape(told, quote=True)}">{pieces}</div>'
        f"<span>{escape(seconds_text(parts['all']))}</span>"
    )
