"""In which order are a foreign directory's checkpoints tried?

Rule: one model at a time, newest step first. The directory's ``checkpoint`` file decides only
*which* model is meant where there are several; it's a hint about the rest (it may name another
model, an older step, or a path of another machine). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.store.checkpoints.candidates import Candidate

Series = tuple[str, bool]
"""(NAME, whether its checkpoints carry steps): ``model.ckpt`` and ``model.ckpt-5`` aren't of one
series, since nothing orders them.
"""


@dataclass(frozen=True)
class Choice:
    """Which checkpoints to try.

    Attributes:
        ordered: newest first; empty where there is nothing, or no telling which model is meant.
        ambiguous: one prefix per model, where there's no telling.
        notes: what the user should know about the choice.
    """

    ordered: tuple[Candidate, ...] = ()
    ambiguous: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def series_of(candidate: Candidate) -> Series:
    """Which series a candidate belongs to."""
    return (
        (candidate.name, True) if candidate.step_in_name is not None else (candidate.prefix, False)
    )


def order(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Newest step first."""
    return sorted(
        candidates,
        key=lambda item: (-1 if item.step_in_name is None else item.step_in_name, item.prefix),
        reverse=True,
    )


def choose(candidates: Sequence[Candidate], pointed: str | None) -> Choice:
    """Which of a directory's candidates to try, in which order.

    Args:
        pointed: the prefix that the ``checkpoint`` file names, None without one.
    """
    claiming = [item for item in candidates if item.is_checkpoint]
    if not claiming:
        return Choice()
    all_series: dict[Series, list[Candidate]] = {}
    for item in claiming:
        all_series.setdefault(series_of(item), []).append(item)
    target = next((item for item in claiming if item.prefix == pointed), None)
    if target is None and len(all_series) > 1:
        return Choice(
            ambiguous=tuple(sorted(order(group)[0].prefix for group in all_series.values())),
            notes=_lost(pointed),
        )
    series = series_of(target) if target is not None else next(iter(all_series))
    ordered = tuple(order(all_series[series]))
    notes = _others(all_series, series) if target is not None else _lost(pointed)
    if target is not None and ordered[0].prefix != target.prefix:
        notes += (
            f"the directory's checkpoint file names {target.prefix}; {ordered[0].prefix} is newer and is tried first",
        )
    return Choice(ordered=ordered, notes=notes)


def _lost(pointed: str | None) -> tuple[str, ...]:
    return (
        ()
        if pointed is None
        else (f"the directory's checkpoint file names {pointed}, which isn't here",)
    )


def _others(all_series: dict[Series, list[Candidate]], chosen: Series) -> tuple[str, ...]:
    others = sorted(
        order(group)[0].prefix for series, group in all_series.items() if series != chosen
    )
    if not others:
        return ()
    shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    return (
        f"the directory holds other models too ({shown}); its checkpoint file names this one. Give a prefix to take another",
    )
