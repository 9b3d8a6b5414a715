"""Does a group train each pattern of the second table as one process does, or say why it can't?

A third of it is tried on each day, in turn; ``make soak`` tries all of it.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import plan
from tests.graph.patterns import make
from tests.graph.stops import STOPS, UNNAMED
from tests.graph.test_patterns_tf import THIRDS, hold_to_the_table

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("name", sorted(STOPS)[date.today().toordinal() % THIRDS :: THIRDS])
def test_group_makes_of_a_pattern_what_the_second_table_says(name: str, tmp_path: Path) -> None:
    hold_to_the_table(make(STOPS[name], tmp_path))


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(STOPS))
def test_group_makes_of_every_pattern_what_the_second_table_says(name: str, tmp_path: Path) -> None:
    hold_to_the_table(make(STOPS[name], tmp_path))


@pytest.mark.parametrize("name", UNNAMED)
def test_assignment_that_trains_is_found_where_nobody_names_it(name: str, tmp_path: Path) -> None:
    made = make(STOPS[name], tmp_path)
    meta = read_meta(Path(f"{made.prefix}.meta").read_bytes(), name="pattern")
    found = plan(meta, RunConfig(source="x", workers=2, input="a:b"))
    assert found.worker_graph is not None, found.problems
    assert found.worker_graph.targets[0].updates == ("w",)
