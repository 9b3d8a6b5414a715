"""Are the rows of divided tables read out of a session, and put into it, as they are: of every type
and both kinds of variables, at another size, and with the same bytes in the store as from a copy?
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from orchestrator.decide import events as ev
from orchestrator.decide.save_copy import MemoryLeft
from orchestrator.store.objects.location import open_location
from orchestrator.training.state.session_rows import ROW_TYPES
from orchestrator.training.state.state import share_of
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.orders import GrantOrder, Setup
from orchestrator.workers.runtime import RealTools
from orchestrator.workers.saver import SaveJob, Saver
from tests import forked
from tests.training import test_restoring_rows
from tests.training.conftest import NewRanks
from tests.training.sharded_graphs import SLOTS, of_a_step
from tests.training.test_restoring_rows import NAMES, OPTIONS, joined
from tests.training.test_sharded_tables import sharded

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.turns(6)]

room = test_restoring_rows.room

EVERY_DTYPE = """
import numpy as np
from orchestrator.graph.worker_graph import Variable
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import gen_resource_variable_ops, gen_state_ops, tf
from orchestrator.training.state.row_access import RowAccess
from orchestrator.training.state.session_rows import Stillness
done = []
for name in DTYPES:
    dtype, unknown = tf.as_dtype(name), tf.TensorShape(None)
    graph = tf.Graph()
    with graph.as_default():
        gen_state_ops.variable_v2(unknown, dtype, name="ref")
        gen_resource_variable_ops.var_handle_op(dtype, unknown, shared_name="resource", name="resource")
    variables = [Variable(kind, kind, name, (None, 3)) for kind in ("ref", "resource")]
    access = RowAccess(graph, variables)
    session = LiveSession(graph, TrainingOptions())
    for kind in ("ref", "resource"):
        assert access.rows(session, kind, Stillness()) is None
        for count in (40, 40, 7, 90):
            rows = access.make_room(session, kind, (count, 3))
            raw = np.random.default_rng(count).integers(0, 2, (count, 3 * dtype.size), np.uint8)
            values = raw.view(dtype.as_numpy_dtype).reshape(count, 3)
            for low in range(0, count, 16):
                rows[low : low + 16] = values[low : low + 16]
            now = access.rows(session, kind, Stillness())
            assert (now.shape, now.dtype) == (values.shape, values.dtype), (name, kind)
            assert now[0:count].tobytes() == values.tobytes(), (name, kind)
            before = now[2:5]
            rows[2:5] = values[:3]
            assert before.tobytes() == values[2:5].tobytes()  # a copy, whatever is written later
    done.append(name)
print("all", len(done))
"""


def test_rows_of_every_type_come_out_as_they_were_put_in_at_any_size() -> None:
    done = forked.run(f"DTYPES = {sorted(ROW_TYPES)!r}\n{EVERY_DTYPE}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["all", str(len(ROW_TYPES))]


def _saved(trainer: Any, url: str, left: MemoryLeft) -> tuple[bool, Any]:
    """Whether the rows were sent from where they lie, and what this rank's saver told."""
    from orchestrator.training.state import saving

    rank, ranks = trainer.share
    before = saving.__dict__["memory_left"]
    saving.__dict__["memory_left"] = lambda reserved, sharers: left
    try:
        state = trainer.state_for_save()
    finally:
        saving.__dict__["memory_left"] = before
    setup = SimpleNamespace(
        graph=trainer.graph, name="m", output=open_location(url), start=None, config=None
    )
    buffer = EventBuffer()
    saver = Saver(f"w{rank}", RealTools(cast(Setup, setup)), buffer)
    grant = GrantOrder(1, 99, (1,), "w0", "a", 12, save=(1, 1), parts=ranks)
    assert saver.begin(grant, rank, state.step, 12)
    saver.submit(SaveJob(state, share_of(state)[0], 12, grant, {}, 0.0))
    saver.close()
    told = buffer.poll(0, 0.0)[1][-1]
    assert isinstance(told, ev.SaveWritten | ev.SaveChecked), told
    return state.live is not None, told.part


NONE, MUCH = MemoryLeft(0, None), MemoryLeft(1 << 50, None)


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_were_not_copied_are_saved_with_the_bytes_of_those_that_were(
    room: Path, new_ranks: NewRanks, tmp_path: Path, name: str
) -> None:
    of = sharded(room, name)
    ranks = new_ranks(SLOTS)
    ranks.load(of.graph, OPTIONS)
    joined(ranks, of.prefix, SLOTS)
    ranks.step(of_a_step(0, of.name))
    live = ranks.each("apply", _saved, str(tmp_path / "live"), NONE)
    copied = ranks.each("apply", _saved, str(tmp_path / "copied"), MUCH)
    ranks.step(of_a_step(1, of.name))  # nothing stands in the way of the next

    assert [was for was, _ in live] == [True] * SLOTS
    assert [was for was, _ in copied] == [False] * SLOTS
    assert [part.report for _, part in live] == [part.report for _, part in copied]
    assert [part.files for _, part in live] == [part.files for _, part in copied]
    for (_, mine), (_, theirs) in zip(live, copied, strict=True):
        assert mine.sizes.keys() == theirs.sizes.keys() >= of.graph.tables.members
        for variable, size in mine.sizes.items():
            assert size.largest == theirs.sizes[variable].largest
            assert size.rms == pytest.approx(theirs.sizes[variable].rms, rel=1e-12)
    files = sorted(file.name for file in (tmp_path / "copied" / "a").iterdir())
    assert len(files) == SLOTS + 1
    for file in files:
        mine = (tmp_path / "live" / "a" / file).read_bytes()
        assert mine == (tmp_path / "copied" / "a" / file).read_bytes(), file


def _broken_off(trainer: Any, url: str) -> str:
    """What is told of a save whose rows may be read no more."""
    from orchestrator.training.state import saving

    saving.__dict__["memory_left"] = lambda reserved, sharers: NONE
    state = trainer.state_for_save()
    state.live.stillness.end()
    tools = RealTools(
        cast(
            Setup,
            SimpleNamespace(graph=trainer.graph, name="m", output=open_location(url), start=None),
        )
    )
    buffer = EventBuffer()
    saver = Saver("w0", tools, buffer)
    assert saver.begin(GrantOrder(1, 99, (1,), "w0", "a", 12, parts=1), 0, state.step, 12)
    saver.submit(
        SaveJob(
            state, share_of(state)[0], 12, GrantOrder(1, 99, (1,), "w0", "a", 12, parts=1), {}, 0.0
        )
    )
    saver.close()
    told = buffer.poll(0, 0.0)[1][-1]
    assert isinstance(told, ev.SaveFailed), told
    return told.detail


def test_save_that_was_broken_off_fails_and_leaves_nothing(
    room: Path, new_ranks: NewRanks, tmp_path: Path
) -> None:
    of = sharded(room, NAMES[0])
    ranks = new_ranks(1)
    ranks.load(of.graph, OPTIONS)
    joined(ranks, of.prefix, 1)
    (told,) = ranks.each("apply", _broken_off, str(tmp_path / "out"))

    assert "broken off" in told
    assert not list(tmp_path.rglob("*.data-*"))
    ranks.step(of_a_step(0, of.name)[:1] * SLOTS)
    assert np.all([state.step == 1 for state in ranks.states()])
