"""What does the documentation say of each pattern of the table?

Rule: ``docs/what-holds.md`` is written from the table and from nothing else: ``python -m
tests.graph.what_holds`` writes it, and a test holds it to that.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from tests.graph.patterns import Outcome, Pattern
from tests.graph.silent import FIELDS, PATTERNS
from tests.graph.stops import STOPS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "what-holds.md"
_HEAD = """# What holds in a group

Ways of writing a TensorFlow 1 training graph, and what a group of workers makes of each, compared with one process that has all batches
of a step in one. Each is a graph of the tests: planned, proved and trained in two batches a step, and beside that by plain TensorFlow in
one. `tfresume check --prove` says the same of your graph, with the names of its operations and variables.

"""
_TABLE = """
## {field}

| the graph | in a group | what to do |
| --- | --- | --- |
"""
_TO_DO: dict[Outcome, str] = {
    "equal": "nothing",
    "told": "nothing where batches are alike in that; `--workers 1 --batches-per-step 1` trains as one process",
    "refused": "`--workers 1`, or build the graph so that the exchange can stand before it",
}


def document() -> str:
    """The page."""
    fields = {**FIELDS, "Where gradients are gathered": tuple(STOPS.values())}
    every = [*PATTERNS.values(), *STOPS.values()]
    return _HEAD + _figures(every) + "".join(_table(*item) for item in fields.items())


def _table(field: str, patterns: Iterable[Pattern]) -> str:
    return _TABLE.format(field=field) + "".join(map(_line, patterns))


def _figures(patterns: Iterable[Pattern]) -> str:
    every = list(patterns)
    count = {
        outcome: sum(pattern.outcome == outcome for pattern in every)
        for outcome in ("equal", "told", "refused")
    }
    way = sum(bool(pattern.way) for pattern in every)
    gaps = sum(bool(pattern.gap) for pattern in every)
    share = count["equal"] / (count["equal"] + gaps)
    said = (
        f"Of {len(every)} graphs {count['equal']} train the same, {count['told']} are told to differ ({way} of them train the same with a "
        f"flag), {count['refused']} are refused, and none differs in silence. {gaps} could be put together from what the batches give, and "
        f"aren't yet (*yet* in the tables says why): of what can be put together, {share:.0%} trains in a group as it is."
    )
    return textwrap.fill(said, 142) + "\n"


def _line(pattern: Pattern) -> str:
    seen = pattern.seen.removesuffix(".").replace("|", "\\|")
    return f"| {seen} | {_outcome(pattern)} | {_remedy(pattern)} |\n"


def _remedy(pattern: Pattern) -> str:
    if pattern.remedy:
        return pattern.remedy
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in pattern.way)
    return f"`{flags}` trains it the same" if flags else _TO_DO[pattern.outcome]


def _outcome(pattern: Pattern) -> str:
    yet = f" (*yet:* {pattern.gap})" if pattern.gap else ""
    if pattern.outcome != "equal":
        return f"{pattern.outcome}: “… {pattern.saying} …”{yet}"
    apart = ", ".join(f"`{name}`" for name in pattern.apart)
    return f"the same, but for {apart}, of which a batch's own is averaged" if apart else "the same"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
