"""Do workers of which two hold each row of a table train what they train with one copy, and do the
rows of whoever is lost stay?

Rule: what a group ends with is compared byte by byte with what an undisturbed one ends with, each
copy with the other one too. Who is said to have died did.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.bundle_writer import own_part
from orchestrator.training.state.state import State
from tests import forked
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks
from tests.training.sharded_graphs import SLOTS, of_a_step
from tests.training.test_restoring_rows import files_of, read_by_worker
from tests.training.test_sharded_tables import (
    begin,
    block_of,
    differing,
    loaded,
    put_together,
    sharded,
    trained,
)

pytestmark = [pytest.mark.tf, pytest.mark.slow]

OPTIONS = TrainingOptions(batches_per_step=SLOTS, deterministic=True)
NAMES = ("adagrad-ref", "parts-adam", "lazy_adam-resource", "clipped-parts", "average")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("copies")
    done = forked.run("tests.training.sharded_graphs", made, *NAMES)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_two_hold_are_trained_as_those_that_one_holds(
    room: Path, new_ranks: NewRanks, name: str
) -> None:
    once, twice = sharded(room, name), sharded(room, name, 2)
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, once)
    wanted = trained(ranks, once, start, SLOTS)
    ranks.load(twice.graph, OPTIONS)
    for size in (1, 2, SLOTS):  # the two copies are compared with each other, too
        assert not differing(wanted, trained(ranks, twice, start, size))


@pytest.fixture
def spoiled(new_ranks: NewRanks) -> Iterator[Ranks]:
    """Ranks whose processes end with the test, since it plants bugs in them."""
    ranks = new_ranks(SLOTS)
    yield ranks
    for process in ranks.everyone:
        process.close()


def _write_own_rows_alone(trainer: Any) -> None:
    """The bug: a copy of another's rows isn't updated."""
    rows = trainer._group._rows
    usual = rows._block

    def block(mesh: Any) -> dict[str, np.ndarray]:
        fed: dict[str, np.ndarray] = usual(mesh)
        for part in trainer.graph.tables.parts:
            first, end = part.block(mesh.rank, mesh.world_size)
            fed[part.count] = np.array(end - first, np.int64)
        return fed

    rows._block = block


def test_copy_that_is_not_updated_is_found(room: Path, spoiled: Ranks) -> None:
    of = sharded(room, "adagrad-ref", 2)
    start = loaded(spoiled, of)
    spoiled.each("apply", _write_own_rows_alone)

    with pytest.raises(AssertionError, match="table"):
        trained(spoiled, of, start, SLOTS)


@pytest.mark.parametrize("name", ["adagrad-ref", "parts-adam"])
def test_ranks_read_their_copies_from_a_checkpoint_and_write_what_they_own(
    room: Path, new_ranks: NewRanks, name: str
) -> None:
    of = sharded(room, name, 2)
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    for size in (1, 2, SLOTS):
        ranks.form(ranks.everyone[:size], position=0)
        files = files_of(of.prefix)
        for rank, process in enumerate(ranks.processes):
            process.send("apply", read_by_worker, str(of.prefix), files, (rank, size))
        states: list[State] = [process.receive() for process in ranks.processes]
        ranks.each("meet")  # what they have read together is what was saved
        assert not differing(put_together(of.tables, states), start.arrays)
        for part in of.tables.parts:
            owned = [own_part(state, of.graph, rest=False).arrays for state in states]
            for member in part.members:
                rows = np.concatenate([arrays[member] for arrays in owned])
                assert rows.tobytes() == start.arrays[member].tobytes()


def test_group_without_its_copies_takes_no_step(room: Path, new_ranks: NewRanks) -> None:
    of = sharded(room, "adagrad-ref", 2)
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    begin(ranks, of, start, SLOTS)
    ranks.form(ranks.everyone[:2])

    outcomes = ranks.outcomes(of_a_step(0, of.name))
    assert all("holds the table rows of rank" in str(one) for one in outcomes), outcomes
    assert {len(block_of(of.tables, start, rank, 2).arrays["table"]) for rank in (0, 1)} == {
        of.tables.parts[0].rows
    }
