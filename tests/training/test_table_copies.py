"""Do workers of which two hold each row of a table train what they train with one copy, and do the
rows of whoever is lost stay?

Rule: what a group ends with is compared byte by byte with what an undisturbed one ends with, each
copy with the other one too. Who is said to have died did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.decide import save_policy
from orchestrator.decide.row_moves import moves
from orchestrator.decide.spans import RowSpan
from orchestrator.errors import CorruptState, PeerLost
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.bundle_writer import own_part
from orchestrator.training.state.moved_rows import RowPiece
from orchestrator.training.state.state import State
from orchestrator.workers.runtime import RealTools
from tests import forked
from tests.training.conftest import NewRanks
from tests.training.ranks import SECRET, RankProcess, Ranks, cut_off_once, outcome_of
from tests.training.sharded_graphs import SLOTS, STEPS, of_a_step
from tests.training.test_restoring_rows import files_of, read_by_worker
from tests.training.test_sharded_tables import (
    Sharded,
    begin,
    block_of,
    differing,
    held_by_two,
    loaded,
    put_together,
    sharded,
    trained,
)

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.turns(6)]

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
    once, twice = sharded(room, name), held_by_two(sharded(room, name))
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
    of = held_by_two(sharded(room, "adagrad-ref"))
    start = loaded(spoiled, of)
    spoiled.each("apply", _write_own_rows_alone)

    with pytest.raises(AssertionError, match="table"):
        trained(spoiled, of, start, SLOTS)


@pytest.mark.parametrize("name", ["adagrad-ref", "parts-adam"])
def test_ranks_read_their_copies_from_a_checkpoint_and_write_what_they_own(
    room: Path, new_ranks: NewRanks, name: str
) -> None:
    of = held_by_two(sharded(room, name))
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
            owned = [
                own_part(state, of.graph, rank, size).arrays for rank, state in enumerate(states)
            ]
            for member in part.members:
                rows = np.concatenate([arrays[member] for arrays in owned])
                assert rows.tobytes() == start.arrays[member].tobytes()


def test_copies_that_differ_are_found_as_they_are_saved(room: Path, new_ranks: NewRanks) -> None:
    of = held_by_two(sharded(room, "parts-adam"))
    tools = RealTools(SimpleNamespace(start=None, graph=of.graph))  # type: ignore[arg-type]
    ranks = new_ranks(1)
    start = loaded(ranks, of)
    states = [block_of(of.tables, start, rank, SLOTS) for rank in range(SLOTS)]
    told = {f"w{rank}": tools.digests(state) for rank, state in enumerate(states)}
    assert save_policy.differing(told) == ()
    assert sum(name.startswith("rows ") for name in told["w0"]) == 2 * len(of.tables.members)

    part = of.tables.parts[0]
    first, end = part.held(1, SLOTS)[1]
    states[1].arrays[part.variable].reshape(-1).view(np.uint8)[-1] ^= 1
    told["w1"] = tools.digests(states[1])
    assert save_policy.differing(told) == (f"rows {first} to {end} of {part.variable}",)


def test_group_without_its_copies_takes_no_step(room: Path, new_ranks: NewRanks) -> None:
    of = held_by_two(sharded(room, "adagrad-ref"))
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    begin(ranks, of, start, SLOTS)
    ranks.form(ranks.everyone[:2])

    outcomes = ranks.outcomes(of_a_step(0, of.name))
    assert all("holds the table rows of rank" in str(one) for one in outcomes), outcomes
    assert {len(block_of(of.tables, start, rank, 2).arrays["table"]) for rank in (0, 1)} == {
        of.tables.parts[0].rows
    }


# -- rows that move from memory to memory

Shares = Mapping[RankProcess, tuple[int, int]]


def _give(trainer: Any, spans: Sequence[RowSpan]) -> Any:
    return trainer.rows.give(spans)


def _take(trainer: Any, share: tuple[int, int], pieces: Sequence[RowPiece]) -> Any:
    trainer.rows.compare(pieces)
    return trainer.rows.take(share, pieces)


def _rest(trainer: Any) -> Any:
    return trainer.rows.rest()


def regroup(ranks: Ranks, have: Shares, seats: Sequence[RankProcess], copies: int) -> list[int]:
    """A group of these, by rank, formed as the driver has it of those who have some rows; how many
    each has taken.
    """
    names = {
        process: f"w{number}" for number, process in enumerate({**have, **dict.fromkeys(seats)})
    }
    plan = moves(
        {names[process]: share for process, share in have.items()},
        [names[process] for process in seats],
        copies,
    )
    assert plan is not None, "some rows are held by nobody"
    workers = {name: process for process, name in names.items()}
    given: list[list[RowPiece]] = []
    for taken in plan:
        pieces: list[RowPiece] = []
        for each in taken:
            pieces += workers[each.holder].call("apply", _give, [each.span])
        given.append(pieces)
    rest = next(iter(have)).call("apply", _rest)
    ranks.form(seats)
    counted = []
    for rank, (process, pieces) in enumerate(zip(seats, given, strict=True)):
        if process not in have:
            process.call("assign", rest)
        rows, _ = process.call("apply", _take, (rank, len(seats)), pieces)
        counted.append(rows)
    return counted


def shares(ranks: Ranks) -> dict[RankProcess, tuple[int, int]]:
    """What the members of the present group hold."""
    size = len(ranks.processes)
    return {process: (rank, size) for rank, process in enumerate(ranks.processes)}


def take_steps(ranks: Ranks, of: Sharded, steps: Iterable[int]) -> None:
    for step in steps:
        ranks.step(of_a_step(step, of.name))


@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.parametrize("name", ["adagrad-ref", "parts-adam"])
def test_survivors_of_a_kill_in_the_midst_of_a_step_move_rows_and_end_with_the_same_bytes(
    room: Path, new_ranks: NewRanks, name: str, victim: int
) -> None:
    of = held_by_two(sharded(room, name))
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    wanted = trained(ranks, of, start, SLOTS)
    begin(ranks, of, start, SLOTS)
    take_steps(ranks, of, [0])
    dealt = ranks.dealt(of_a_step(1, of.name))
    for rank, process in enumerate(ranks.processes):
        if rank != victim:
            process.send("step", dealt[rank])
    killed = ranks.processes[victim]
    killed.kill()
    have = {process: share for process, share in shares(ranks).items() if process is not killed}
    outcomes = [outcome_of(process.receive) for process in have]
    assert all(isinstance(outcome, PeerLost) for outcome in outcomes), outcomes

    took = regroup(ranks, have, list(have), 2)
    assert all(took)
    take_steps(ranks, of, range(1, STEPS))

    assert not differing(wanted, put_together(of.tables, ranks.states()))
    assert {state.share for state in ranks.states()} == {(0, 2), (1, 2)}


def test_newcomer_takes_the_lost_ranks_rows_and_the_others_copy_nothing(
    room: Path, new_ranks: NewRanks
) -> None:
    of = held_by_two(sharded(room, "parts-adam"))
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    wanted = trained(ranks, of, start, SLOTS)
    begin(ranks, of, start, SLOTS)
    take_steps(ranks, of, [0, 1])
    lost = ranks.processes[1]
    have = {process: share for process, share in shares(ranks).items() if process is not lost}
    lost.call("create", of.graph, OPTIONS, SECRET)  # a process that knows nothing

    took = regroup(ranks, have, ranks.processes, 2)
    held = [part.held(1, SLOTS) for part in of.tables.parts]
    assert took == [0, sum(end - first for blocks in held for first, end in blocks), 0]
    take_steps(ranks, of, range(2, STEPS))

    assert not differing(wanted, put_together(of.tables, ranks.states()))


@pytest.mark.parametrize("copies", [1, 2])
def test_group_that_grows_and_shrinks_moves_rows_and_ends_with_the_same_bytes(
    room: Path, new_ranks: NewRanks, copies: int
) -> None:
    of = sharded(room, "parts-adam")
    of = held_by_two(of) if copies == 2 else of
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    wanted = trained(ranks, of, start, SLOTS)
    everyone = ranks.everyone
    begin(ranks, of, start, 2)
    take_steps(ranks, of, [0])
    assert any(regroup(ranks, shares(ranks), everyone, copies))
    take_steps(ranks, of, [1])
    # The one that goes is a member no more, and gives what it has
    assert any(regroup(ranks, shares(ranks), [everyone[2], everyone[0]], copies))
    take_steps(ranks, of, [2])
    assert any(regroup(ranks, shares(ranks), everyone[1:2], copies))
    take_steps(ranks, of, [3])

    assert not differing(wanted, put_together(of.tables, ranks.states()))


def test_member_that_lacks_a_run_takes_its_result_and_then_gives_its_rows(
    room: Path, new_ranks: NewRanks
) -> None:
    of = held_by_two(sharded(room, "adagrad-ref"))
    ranks = new_ranks(SLOTS)
    start = loaded(ranks, of)
    wanted = trained(ranks, of, start, SLOTS)
    begin(ranks, of, start, SLOTS)
    take_steps(ranks, of, [0])
    ranks.processes[0].call("apply", cut_off_once, 0)
    outcomes = ranks.outcomes(of_a_step(1, of.name))
    assert isinstance(outcomes[0], PeerLost), outcomes
    have = shares(ranks)
    killed = ranks.processes[1]
    killed.kill()
    del have[killed]
    ranks.form(list(have), position=2 * SLOTS)
    assert ranks.each("meet") == [True, False]

    regroup(ranks, have, list(have), 2)
    take_steps(ranks, of, range(2, STEPS))

    assert not differing(wanted, put_together(of.tables, ranks.states()))


def _spoil(pieces: Sequence[RowPiece]) -> list[RowPiece]:
    first, *rest = pieces
    values = first.rows.values.copy()
    values.reshape(-1).view(np.uint8)[0] ^= 1
    return [replace(first, rows=replace(first.rows, values=values)), *rest]


def test_rows_that_arrive_damaged_or_not_at_all_are_refused(
    room: Path, new_ranks: NewRanks
) -> None:
    of = sharded(room, "adagrad-ref")
    ranks = new_ranks(2)
    start = loaded(ranks, of)
    begin(ranks, of, start, 2)
    taker, giver = ranks.processes
    half = [RowSpan(Fraction(1, 2), Fraction(1))]
    pieces = giver.call("apply", _give, half)
    before = taker.call("state")

    with pytest.raises(CorruptState, match=r"arrived damaged, table"):
        taker.call("apply", _take, (0, 1), _spoil(pieces))
    after = taker.call("state")
    assert after.share == before.share == (0, 2)
    assert not differing(before.arrays, after.arrays)
    with pytest.raises(CorruptState, match="has come from nobody"):
        taker.call("apply", _take, (0, 1), pieces[:1])
    assert taker.call("share") is None
