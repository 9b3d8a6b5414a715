"""Do saves of changed rows, each over the one before, hold what a full save would hold?

Rule: three ranks train and save in chains, with TensorFlow and the real way of a save; what a chain
folds to is compared byte for byte with what the ranks held. Whoever forgets rows has to show.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.decide import events as ev
from orchestrator.decide.rules import saving
from orchestrator.decide.save_policy import differing as differing_copies
from orchestrator.errors import CorruptCheckpoint, OutputError
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.bundle.stored_index import stored_index
from orchestrator.store.checkpoints.chain_source import newest_state
from orchestrator.store.checkpoints.chains import fold, newest_chain
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.reports import checkpoints_report
from orchestrator.store.checkpoints.source import Source, newest_source
from orchestrator.training.state.bundle_keys import checkpoint_keys
from orchestrator.training.state.state import State
from tests import forked
from tests.training import test_sharded_tables
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks, outcome_of
from tests.training.sharded_graphs import SLOTS
from tests.training.test_parts_of_saves import READ, Savers
from tests.training.test_restoring_rows import joined
from tests.training.test_sharded_tables import (
    OPTIONS,
    Sharded,
    begin,
    differing,
    held_by_two,
    put_together,
    sharded,
)
from tests.training.writing import write_bundle

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.turns(6)]

room = test_sharded_tables.room
NOTING = replace(OPTIONS, changed_rows=True)
BY_ROW = ["adagrad-ref", "ftrl-resource", "parts-ftrl", "clipped-parts", "lazy_adam-resource"]
"""Every write of every member is by row; some lie in parts of a partitioner."""
CASES = [*BY_ROW, "adam-ref", "average", "in_turns"]
"""With those that also write all rows of a slot at each step, and two train operations of which one
writes no row.
"""


def few(step: int) -> list[Mapping[str, np.ndarray]]:
    """Batches of a step, which touch some rows only; the middle one none."""
    rows = [[step, step], [], [(step + 10) % 20, step]]
    return [{"ids:0": np.array(each, np.int64)} for each in rows]


class Group:
    """Ranks that train and save."""

    def __init__(self, ranks: Ranks, of: Sharded, savers: Savers) -> None:
        self.ranks, self.of, self.savers = ranks, of, savers
        ranks.load(of.graph, NOTING)
        start: State = ranks.processes[0].call("load_checkpoint", str(of.prefix))
        self.whole = start
        begin(ranks, of, start, SLOTS)

    def train(self, step: int) -> None:
        self.ranks.step(few(step))
        states = self.ranks.states()
        arrays = put_together(self.of.tables, states)
        self.whole = replace(self.whole, step=states[0].step, arrays=arrays)

    def copies(self, number: int, over: int = 0) -> list[State]:
        return self.ranks.each("state_for_save", (1, number), (1, over) if over else None)

    def save(self, number: int, over: int = 0) -> list[State]:
        """Commit a save; the copies that it was made of."""
        states = self.copies(number, over)
        self.savers.commit(self.savers.parts(states, number, over))
        return states


@pytest.fixture
def new_savers(tmp_path: Path) -> Iterator[Any]:
    made: list[Savers] = []

    def make(graph: WorkerGraph) -> Savers:
        made.append(Savers(graph, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.thread.close()


@pytest.mark.parametrize("name", ["adagrad-ref", "parts-ftrl"])
def test_chain_of_tables_of_which_two_hold_each_row_is_what_ranks_held(
    room: Path, new_ranks: NewRanks, new_savers: Any, name: str
) -> None:
    of = held_by_two(sharded(room, name))
    group = Group(new_ranks(SLOTS), of, new_savers(of.graph))
    group.train(0)
    group.save(1)
    for number in (2, 3):
        group.train(2 * number)
        states = group.copies(number, number - 1)
        told = group.savers.parts(states, number, number - 1)
        digests = {str(rank): one.digests for rank, one in enumerate(told)}
        assert differing_copies(digests) == ()
        group.savers.commit(told)
        assert unlike(group) == []
    written = [len((state.changed or {})[of.tables.parts[0].variable]) for state in states]
    assert 0 < sum(written) < 8  # each row by who owns it


def _gather_nothing(trainer: Any) -> None:
    """As on a GPU, where a variable's rows are reached through all of it alone."""
    trainer._snapshot.rows.names = trainer._snapshot._members = frozenset()


def test_chain_where_rows_cannot_be_gathered_is_what_ranks_held(
    room: Path, new_ranks: NewRanks, new_savers: Any
) -> None:
    group = group_of(room, new_ranks, new_savers, "adagrad-ref")
    group.ranks.each("apply", _gather_nothing)
    group.train(0)
    group.save(1)
    for number in (2, 3):
        group.train(2 * number)
        states = group.save(number, number - 1)
        assert unlike(group) == []
    table = group.of.tables.parts[0].variable
    assert 0 < sum(len((state.changed or {})[table]) for state in states) < 8


def group_of(room: Path, new_ranks: NewRanks, new_savers: Any, name: str) -> Group:
    of = sharded(room, name, **({"train_op": ["rows", "rest"]} if name == "in_turns" else {}))
    return Group(new_ranks(SLOTS), of, new_savers(of.graph))


def newest(group: Group) -> Source:
    source, found = newest_state(group.savers.output, deep=True)
    assert source is not None
    assert found is not None
    return source


def unlike(group: Group) -> list[str]:
    """Variables of which the newest saved state isn't what the ranks hold, as it folds."""
    chain, refused = newest_chain(group.savers.output, deep=True)
    assert chain is not None
    assert not refused
    assert chain.newest.step == group.whole.step
    folded, found = chain.folded(), []
    slices = {variable.name: variable.slice_spec for variable in group.of.graph.variables}
    for name, key in checkpoint_keys(group.of.graph).items():
        if name in group.whole.arrays and not slices[name]:
            content = b"".join(bytes(piece) for piece in folded.chunks(key))
            if content != group.whole.arrays[name].tobytes():
                found.append(name)
    return found


@pytest.mark.parametrize("name", CASES)
def test_chain_is_the_state_that_ranks_held_also_to_tensorflow_and_to_other_ranks(
    room: Path, new_ranks: NewRanks, new_savers: Any, tmp_path: Path, name: str
) -> None:
    group = group_of(room, new_ranks, new_savers, name)
    group.train(0)
    group.save(1)
    pointed = read_pointer(group.savers.output)
    held: list[State] = []
    for number in (2, 3):
        group.train(2 * number)
        group.train(2 * number + 1)
        held = group.save(number, number - 1)
        assert unlike(group) == []
    source = newest(group)

    # Little is copied and written of what is written by row
    rows = {
        each: sum(len((state.changed or {})[each]) for state in held)
        for each in held[0].changed or {}
    }
    table = group.of.tables.parts[0].variable
    if name in BY_ROW:
        assert set(rows) == group.of.tables.members
        assert 0 < rows[table] < 8
    if name == "adam-ref":
        assert set(rows) == set()  # of a weight in many operations all rows are written
    assert len(source.links) == 3
    assert read_pointer(group.savers.output) == pointed  # what plain TensorFlow needs
    full, _ = newest_source(group.savers.output)
    assert full is not None
    assert full.label == pointed
    told = checkpoints_report(group.savers.output, verify=True).checkpoints
    assert [row.state for row in told] == ["good"] * 3
    assert [len(row.stands_on) for row in told] == [2, 1, 0]

    # Plain TensorFlow reads what it folds to
    chain, _ = newest_chain(group.savers.output)
    assert chain is not None
    fold(chain, tmp_path / "folded-5")
    (tmp_path / "folded-5.meta").write_bytes(source.meta_data)
    write_bundle(group.whole, group.of.whole, tmp_path, "whole-5")
    done = forked.run(READ, tmp_path / "folded-5", tmp_path / "whole-5")
    assert done.returncode == 0, done.stderr[-3000:]
    unequal, count = map(json.loads, done.stdout.splitlines()[-2:])
    assert unequal == []
    assert count

    # A resume on other numbers of ranks goes on as if nothing had been
    group.train(9)
    for size in (2, 1):
        states = joined(
            group.ranks, Path(str(source.prefix)), size, source.files, links=source.links
        )
        assert {state.share for state in states} == {(rank, size) for rank in range(size)}
        group.ranks.each("meet")
        group.ranks.step(few(9))
        ended = put_together(group.of.tables, group.ranks.states())
        assert not differing(ended, group.whole.arrays)


def test_chain_of_divided_tables_is_read_by_workers_that_hold_them_whole(
    room: Path, new_ranks: NewRanks, new_savers: Any
) -> None:
    group = group_of(room, new_ranks, new_savers, "clipped-parts")
    group.save(1)
    for number in (2, 3):
        group.train(number)
        group.save(number, number - 1)
    source = newest(group)
    group.ranks.load(group.of.whole, OPTIONS)
    (state,) = joined(*(group.ranks, Path(str(source.prefix)), 1, source.files), links=source.links)
    assert state.step == group.whole.step
    assert not differing(state.arrays, group.whole.arrays)


def test_save_that_was_lost_loses_no_row_of_the_next_one(
    room: Path, new_ranks: NewRanks, new_savers: Any
) -> None:
    group = group_of(room, new_ranks, new_savers, "adagrad-ref")
    group.save(1)
    group.train(3)
    group.copies(2, 1)  # nobody commits it
    group.train(5)
    group.ranks.processes[1].call(
        "state_for_save", (1, 3), (1, 1)
    )  # and that one rank alone heard of
    group.train(7)
    states = group.save(4, 1)

    assert unlike(group) == []
    assert sum(len((state.changed or {})["table"]) for state in states) == 6
    group.train(8)
    group.save(5, 4)
    assert unlike(group) == []


def test_save_that_a_killed_rank_never_finished_leaves_the_chain_before_it(
    room: Path, new_ranks: NewRanks, new_savers: Any
) -> None:
    group = group_of(room, new_ranks, new_savers, "adagrad-ref")
    group.save(1)
    group.train(2)
    group.save(2, 1)
    held = group.whole
    group.train(3)
    states = group.copies(3, 2)
    told = group.savers.parts(states, 3, 2)
    assert len(told) == SLOTS
    lost = told[2].part
    assert lost is not None
    (record,) = lost.files
    data = group.savers.output.child("a0001-g0001", record.name)
    data.delete()  # it was killed before it was up
    group.ranks.processes[2].kill()
    source, newest_save = newest_state(group.savers.output, deep=True)

    assert source is not None
    assert newest_save is not None
    assert newest_save.step == held.step
    assert [item.reason for item in source.refused] == [
        "it was never committed: the save didn't finish"
    ]
    members = group.ranks.everyone[:2]
    group.ranks.processes = members
    states = joined(group.ranks, Path(str(source.prefix)), 2, source.files, links=source.links)
    group.ranks.each("meet")
    assert not differing(put_together(group.of.tables, states), held.arrays)
    for process in group.ranks.everyone:
        process.close()


def _forgets(trainer: Any) -> None:
    """The bug: a rank doesn't note what it writes."""
    trainer._group.written.note = lambda target, values: None


def _begins_anew(trainer: Any) -> None:
    """The bug: what was written before the copy for a save that was lost counts for saved."""
    written = trainer._group.written
    usual = written.changed

    def changed(save: Any, over: Any, share: Any) -> Any:
        if over is not None:
            written._since = {over: written._since[next(reversed(written._since))]}
        return usual(save, over, share)

    written.changed = changed


@pytest.mark.parametrize("plant", [_forgets, _begins_anew])
def test_rank_that_forgets_rows_is_found(
    room: Path, new_ranks: NewRanks, new_savers: Any, plant: Any
) -> None:
    group = group_of(room, new_ranks, new_savers, "adagrad-ref")
    group.ranks.processes[0].call("apply", plant)
    group.save(1)
    group.train(3)
    group.copies(2, 1)
    group.train(5)
    group.save(3, 1)
    found = unlike(group)
    for process in group.ranks.everyone:
        process.close()

    assert found == ["table", "table/Adagrad"]


def test_rank_that_was_given_a_state_knows_of_no_save(
    room: Path, new_ranks: NewRanks, new_savers: Any
) -> None:
    group = group_of(room, new_ranks, new_savers, "adagrad-ref")
    group.save(1)
    begin(group.ranks, group.of, group.whole, SLOTS)
    group.ranks.processes[0].send("state_for_save", (1, 2), (1, 1))
    assert isinstance(outcome_of(group.ranks.processes[0].receive), OutputError)


def test_damaged_link_takes_the_run_back_to_the_newest_state_that_is_good(
    room: Path, new_ranks: NewRanks, new_savers: Any
) -> None:
    group = group_of(room, new_ranks, new_savers, "adagrad-ref")
    group.save(1)
    for number in (2, 3, 4):
        group.train(number)
        group.save(number, number - 1)
    source = newest(group)
    assert len(source.links) == 4
    index = stored_index(source.links[2])
    (piece, *_) = [one for one in index.pieces if "/values/" in one.key]
    data = Path(source.links[2][1 + piece.shard].location.path)
    content = bytearray(data.read_bytes())
    content[piece.offset] ^= 1
    data.write_bytes(content)
    again = newest(group)

    assert len(again.links) == 2
    assert [item.checkpoint for item in again.refused] == [
        "a0001-g0001/model.ckpt-3.changed",
        "a0001-g0001/model.ckpt-2.changed",
    ]
    assert all("damaged" in item.reason for item in again.refused), again.refused
    # A worker that began to read before that finds it out
    with pytest.raises(CorruptCheckpoint, match=r"changed.*fails its checksum"):
        joined(group.ranks, Path(str(source.prefix)), 1, source.files, links=source.links)


def test_ranks_of_which_one_has_saved_all_of_its_rows_make_no_checkpoint(
    room: Path, new_ranks: NewRanks, new_savers: Any
) -> None:
    from orchestrator.decide.save_parts import amiss

    group = group_of(room, new_ranks, new_savers, "adagrad-ref")
    group.save(1)
    group.train(2)
    some = group.savers.parts(group.copies(2, 1), 2, 1)
    told: list[Any] = [*some[:2], group.savers.parts(group.ranks.states(), 2)[2]]
    parts = {event.part.rank: event.part for event in told}
    assert isinstance(told[2], ev.SaveChecked)
    assert "some ranks have written all of their rows" in amiss(parts, SLOTS)


def test_save_over_one_that_was_never_committed_is_none(
    room: Path, new_ranks: NewRanks, new_savers: Any
) -> None:
    group = group_of(room, new_ranks, new_savers, "adagrad-ref")
    group.save(1)
    group.train(2)
    told = group.savers.parts(group.copies(2, 1), 2, 9)
    parts = {event.part.rank: event.part for event in told if event.part is not None}
    assert isinstance(told[0], ev.SaveWritten)
    group.savers.thread.commit(saving.put_together(told[0], parts), SLOTS)
    failed = group.savers.told.get(timeout=60)
    assert isinstance(failed, ev.SaveFailed)
    assert "since save 9, which was never committed" in failed.detail
    assert len(newest(group).links) == 0
