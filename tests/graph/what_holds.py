"""What does the documentation say of each pattern of the table?

Rule: ``docs/what-holds.md`` is written from the table and from nothing else: ``python -m
tests.graph.what_holds`` writes it, and a test holds it to that.
"""

from __future__ import annotations

from pathlib import Path

from tests.graph.patterns import Outcome, Pattern
from tests.graph.silent import PATTERNS
from tests.graph.stops import STOPS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "what-holds.md"
_HEAD = """# What holds in a group

Ways of writing a TensorFlow 1 training graph, and what a group of workers makes of each, compared with one process that has all batches
of a step in one. Each is a graph of the tests, trained on two workers and beside them in one process. `tfresume check` says the same of
your graph, with the names of its operations and variables.

| the graph | in a group | what to do |
| --- | --- | --- |
"""
_TO_DO: dict[Outcome, str] = {
    "same": "nothing",
    "differs": "nothing where batches are alike; `--workers 1` with all rows in one batch is exact",
    "refused": "`--workers 1`, or build the graph so that the exchange can stand before it",
}


def document() -> str:
    """The page."""
    return _HEAD + "".join(_line(pattern) for pattern in (PATTERNS | STOPS).values())


def _line(pattern: Pattern) -> str:
    return f"| {pattern.seen.removesuffix('.')} | {_outcome(pattern)} | {pattern.remedy or _TO_DO[pattern.outcome]} |\n"


def _outcome(pattern: Pattern) -> str:
    if pattern.outcome == "refused":
        return f"refused: “… {pattern.saying} …”"
    apart = ", ".join(f"`{name}`" for name in pattern.apart)
    if pattern.outcome == "differs":
        return f"trains; {apart} is each batch's own, averaged, and `check` warns of it"
    return f"the same, but for {apart}, of which a batch's own is averaged" if apart else "the same"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
