"""Is what three ranks save of divided tables, each its rows, one plain checkpoint: to TensorFlow, to
our own readers, and byte for byte what one process saves that has all of it?

The way of a save is the real one: each rank's ``Saver`` with TensorFlow's tools, the rules that put
the parts together, and the thread that commits.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.decide import events as ev
from orchestrator.decide.rules.saving import put_together
from orchestrator.decide.save_parts import amiss
from orchestrator.decide.save_policy import differing as differing_digests
from orchestrator.driver.save_manifests import Saved
from orchestrator.driver.storage_thread import StorageThread
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, list_checkpoints
from orchestrator.store.checkpoints.source import newest_source
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lease import acquire
from orchestrator.training.state.sizes import sizes
from orchestrator.training.state.state import State, share_of
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.orders import GrantOrder, Setup
from orchestrator.workers.runtime import RealTools
from orchestrator.workers.saver import SaveJob, Saver
from tests import forked
from tests.training import test_sharded_tables
from tests.training.conftest import NewRanks
from tests.training.test_sharded_tables import Sharded, block_of, loaded, sharded, trained
from tests.training.writing import write_bundle

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.turns(3)]

rankS = 3
room = test_sharded_tables.room
CASES = ["adam-ref", "adam-resource", "parts-adam", "parts-ftrl", "clipped-parts", "in_turns"]
"""Variables with references and of resources, tables in parts of a partitioner, slots of several
shapes, and what isn't divided.
"""

READ = """
import json, sys
import numpy as np
import tensorflow as tf
tf1 = tf.compat.v1
tf1.disable_eager_execution()
found = []
for prefix in sys.argv[1:]:
    reader = tf1.train.NewCheckpointReader(prefix)
    values = {key: np.asarray(reader.get_tensor(key)) for key in reader.get_variable_to_shape_map()}
    with tf1.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.import_meta_graph(prefix + ".meta", clear_devices=True)
        saver.restore(session, prefix)
        for variable in tf1.global_variables():
            values["variable " + variable.op.name] = session.run(variable)
    found.append({key: (str(v.dtype), v.shape, v.tobytes()) for key, v in values.items()})
assert found[0].keys() == found[1].keys()
print(json.dumps([key for key in found[0] if found[0][key] != found[1][key]]))
print(len(found[0]))
"""


class Savers:
    """The ranks' threads that save, and the one that commits."""

    def __init__(self, graph: WorkerGraph, directory: Path) -> None:
        self.output: Location = open_location(str(directory / "out"))
        self.told: queue.Queue[Any] = queue.Queue()
        url = self.output.url
        config = parse_config({"source": str(directory / "none"), "output": url, "until_step": 9})
        saved = Saved("f", "global_step", ())
        self.thread = StorageThread(
            self.output, acquire(self.output), config, saved, (0, 0), None, 0.0, self.told.put
        )
        self.thread.take_over(1, 0)
        setup = SimpleNamespace(graph=graph, name="model.ckpt", output=self.output, start=None)
        self.tools = RealTools(cast(Setup, setup))

    def parts(
        self, states: Sequence[State], number: int = 1, over: int = 0
    ) -> list[ev.SaveWritten | ev.SaveChecked]:
        """What each rank tells of the save of this number, of changed rows where it's over one."""
        told: list[Any] = []
        for rank, state in enumerate(states):
            buffer = EventBuffer()
            saver = Saver(f"w{rank}", self.tools, buffer)
            grant = GrantOrder(
                *(1, 99, (4,), "w0", "a0001-g0001", 12),
                save=(1, number),
                parts=len(states),
                over=(1, over) if over else None,
            )
            assert saver.begin(grant, rank, state.step, 12)
            saver.submit(SaveJob(state, share_of(state)[0], 12, grant, {}, 0.0))
            saver.close()
            told.append(buffer.poll(0, 0.0)[1][-1])
        return told

    def commit(self, told: Sequence[ev.SaveWritten | ev.SaveChecked]) -> ev.SaveWritten:
        """Put the parts together as the rules do, and commit."""
        parts = {event.part.rank: event.part for event in told if event.part is not None}
        assert not amiss(parts, len(told))
        assert not differing_digests({event.worker: event.digests for event in told})
        written = put_together(cast(ev.SaveWritten, told[0]), parts)
        self.thread.commit(written, len(told))
        self.told.get(timeout=60)
        assert isinstance(self.told.get(timeout=60), ev.Committed)
        return written

    @property
    def checkpoint(self) -> Checkpoint:
        (found,) = list_checkpoints(self.output)
        return found


@pytest.fixture
def savers(tmp_path: Path) -> Iterator[Any]:
    made: list[Savers] = []

    def make(graph: WorkerGraph) -> Savers:
        made.append(Savers(graph, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.thread.close()


def shared(of: Sharded, whole: State, ranks: int = rankS) -> list[State]:
    """What each rank holds."""
    blocks = (block_of(of.tables, whole, rank, ranks) for rank in range(ranks))
    return [replace(block, share=(rank, ranks)) for rank, block in enumerate(blocks)]


@pytest.mark.parametrize("name", CASES)
def test_tables_that_three_ranks_save_are_those_that_one_saves_whole(
    room: Path, new_ranks: NewRanks, savers: Any, tmp_path: Path, name: str
) -> None:
    of = sharded(room, name, **({"train_op": ["rows", "rest"]} if name == "in_turns" else {}))
    ranks = new_ranks(rankS)
    start = loaded(ranks, of)
    arrays = trained(ranks, of, start, rankS)
    whole = replace(start, step=ranks.states()[0].step, arrays=arrays)
    saving = savers(of.graph)
    told = saving.parts(shared(of, whole))
    written = saving.commit(told)

    # Its own readers
    found = saving.checkpoint
    assert found.check(deep=True).step == whole.step
    source, _ = newest_source(saving.output, deep=True)
    assert source is not None
    assert source.step == whole.step
    names = [record.name.partition(".ckpt-")[2] for record in found.manifest().files]
    data = [f"{whole.step}.data-0000{rank}-of-0000{rankS}" for rank in range(rankS)]
    assert names == [data[0], f"{whole.step}.meta", *data[1:], f"{whole.step}.index"]
    again: State = ranks.processes[0].call("load_checkpoint", found.prefix.path)
    assert again.arrays.keys() == whole.arrays.keys()
    for variable, array in whole.arrays.items():
        assert again.arrays[variable].tobytes() == array.tobytes(), variable

    # TensorFlow's, of the original graph
    write_bundle(whole, of.whole, tmp_path, "whole-4")
    done = forked.run(READ, found.prefix.path, tmp_path / "whole-4")
    assert done.returncode == 0, done.stderr[-3000:]
    unequal, count = map(json.loads, done.stdout.splitlines()[-2:])
    assert unequal == []
    assert count >= 2 * len(arrays) - len(of.tables.members)

    # What is told of the rows is what one process would tell
    alone = sizes(whole, of.graph.variables)
    assert written.sizes.keys() == alone.keys()
    for variable, size in alone.items():
        mine = written.sizes[variable]
        assert (mine.largest, mine.trained, mine.elements) == (
            size.largest,
            size.trained,
            size.elements,
        )
        assert mine.rms == pytest.approx(size.rms, rel=1e-12)


def test_ranks_compare_what_is_not_divided_and_tell_each_what_of_its_rows_is_not_finite(
    room: Path, new_ranks: NewRanks, savers: Any
) -> None:
    of = sharded(room, "clipped-parts")
    ranks = new_ranks(1)
    states = shared(of, loaded(ranks, of))
    member = of.tables.parts[0].variable
    states[2].arrays[member][0, 0] = np.nan
    saving = savers(of.graph)
    told = saving.parts(states)

    assert told[0].digests.keys() == told[2].digests.keys()
    assert not set(told[0].digests) & of.tables.members
    assert "dense" in told[0].digests
    assert [event.part.nonfinite for event in told] == [(), (), (member,)]
    states[1].arrays["dense"] = states[1].arrays["dense"] + 1
    again = saving.parts(states)
    assert differing_digests({event.worker: event.digests for event in again}) == ("dense",)


def test_rows_of_another_block_are_refused_before_anything_is_written(
    room: Path, new_ranks: NewRanks, savers: Any
) -> None:
    of = sharded(room, "clipped")
    ranks = new_ranks(1)
    one, two, three = shared(of, loaded(ranks, of))
    saving = savers(of.graph)
    (failed,) = saving.parts([replace(one, share=(0, 2))])
    assert isinstance(failed, ev.SaveFailed)
    assert "as rank 0 of 2, and is to write them as rank 0 of 1" in failed.detail
    for part in of.tables.parts:
        one.arrays[part.variable] = one.arrays[part.variable][:-1]
    failed, *_ = saving.parts([one, two, three])
    assert isinstance(failed, ev.SaveFailed)
    assert "and its block has" in failed.detail


def test_save_by_one_rank_has_the_bytes_of_a_whole_one(
    room: Path, new_ranks: NewRanks, savers: Any, tmp_path: Path
) -> None:
    of = sharded(room, "adam-ref")
    ranks = new_ranks(1)
    whole = loaded(ranks, of)
    saving = savers(of.graph)
    saving.commit(saving.parts(shared(of, whole, 1)))
    found = saving.checkpoint
    files = write_bundle(whole, of.whole, tmp_path, f"model.ckpt-{whole.step}")
    assert len(files) == 3
    for file in files:
        mine = saving.output.child(found.manifest().directory, file.name)
        assert mine.read_bytes(0, file.stat().st_size + 1) == file.read_bytes(), file.name
