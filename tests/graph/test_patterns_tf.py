"""Does a group make of each pattern of the table what the table says?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.graph.patterns import Made, make
from tests.graph.silent import PATTERNS
from tests.graph.trial import planned, tried

pytestmark = pytest.mark.tf


@pytest.mark.turns(6)
@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_group_makes_of_a_pattern_what_the_table_says(name: str, tmp_path: Path) -> None:
    hold_to_the_table(make(PATTERNS[name], tmp_path))


def hold_to_the_table(made: Made) -> None:
    """Plan, prove and train it for a group, and beside it in one process."""
    pattern = made.pattern
    seen = tried(made)
    assert seen.outcome == pattern.outcome, (seen.said, seen.unlike)
    assert pattern.saying in seen.said, seen.said
    if pattern.outcome == "told":
        assert seen.unlike, "it's told of a difference that isn't there"
    if pattern.outcome == "refused" and "can't be trained by a group" in seen.said:
        alone = planned(made, workers=1)
        assert alone.worker_graph is not None, alone.problems
        assert alone.group_refused in seen.said
    if pattern.way:
        assert tried(made, **dict(pattern.way)).outcome == "equal"
