"""Is the copy that a save works on the state itself, left alone by later steps, and made in the
same memory each time?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.host_buffers import ALIGNMENT, HostBuffers, aligned
from orchestrator.training.state.state import ENTRY_PREFIX, State, checksums, nonfinite
from tests import forked
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks

GRAPHS = [
    ("mlp", {"optimizer": "adam", "resource": False}),
    ("mlp", {"optimizer": "adam", "resource": True}),
    ("embedding", {"optimizer": "adam", "partitions": 2}),
    ("conv_bn", {}),
    ("metrics", {}),
]


def addresses(state: State) -> dict[str, int]:
    return {
        name: array.ctypes.data
        for name, array in state.arrays.items()
        if array.dtype.kind != "O" and array.size
    }


def kinds(state: State) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (array.shape, array.dtype.str) for name, array in state.arrays.items()}


def _copies(trainer: Any, feeds: Any) -> dict[str, Any]:
    """What a copy holds at once, after two more steps, and what the next copy does to it."""
    before = trainer.state()
    copy = trainer.state_for_save()
    at_once, where = checksums(copy), addresses(copy)
    for step in range(2):
        trainer.step([feeds[step]])
    after_steps = checksums(copy)
    again = trainer.state_for_save()
    return {
        "names": (sorted(before.arrays), sorted(copy.arrays)),
        "kinds": (kinds(before), kinds(copy)),
        "before": checksums(before),
        "at_once": at_once,
        "after_steps": after_steps,
        "steps": (before.step, copy.step, again.step),
        "now": checksums(trainer.state()),
        "again": checksums(again),
        "where": where,
        "where_again": addresses(again),
    }


@pytest.mark.tf
@pytest.mark.parametrize(("kind", "options"), GRAPHS)
@pytest.mark.parametrize("world_size", [1, 2])
def test_copy_for_a_save_is_the_state_and_stays_while_training_goes_on(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    kind: str,
    options: dict[str, Any],
    world_size: int,
) -> None:
    ranks = new_ranks(world_size)
    ranks.start(
        tf1_checkpoint(kind, **options), options=TrainingOptions(batches_per_step=world_size)
    )
    serve = feeds_for(kind)
    for rank, process in enumerate(ranks.processes):
        process.send("apply", _copies, [serve(10 * rank + step) for step in range(2)])
    for found in [process.receive() for process in ranks.processes]:
        assert found["names"][0] == found["names"][1]
        assert found["kinds"][0] == found["kinds"][1]
        assert found["before"] == found["at_once"] == found["after_steps"] != found["again"]
        assert found["again"] == found["now"]
        assert found["steps"] == (3, 3, 5)
        assert found["where"] == found["where_again"], "a save took new memory"
        assert {address % ALIGNMENT for address in found["where"].values()} == {0}


EVERY_DTYPE = """
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from orchestrator.training.state.host_buffers import HostBuffers
tf.compat.v1.disable_eager_execution()
for name in DTYPES:
    dtype, buffers = tf.as_dtype(name), HostBuffers()
    value = np.frombuffer(bytes(range(64)), np.uint8)[: 4 * dtype.size] & 1
    value = np.frombuffer(value.tobytes(), dtype.as_numpy_dtype)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        fed = tf.compat.v1.placeholder(dtype)
        same = tf.identity(fed)
        fetched = session.run(same, {fed: value})
        options = config_pb2.CallableOptions(fetch=[same.name], feed=[fed.name])
        (own,) = session._make_callable_from_options(options)(value)
        buffer = buffers.fill("v", np.asarray(own))
    assert buffer.dtype == fetched.dtype, name
    assert buffer.tobytes() == fetched.tobytes() == value.tobytes(), name
print("all", len(DTYPES))
"""
DTYPES = [
    "bfloat16",
    "half",
    "float32",
    "float64",
    "float8_e4m3fn",
    "float8_e5m2",
    "bool",
    "int4",
    "uint4",
    "int8",
    "uint16",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "qint8",
    "quint8",
    "qint16",
    "qint32",
]


@pytest.mark.tf
def test_copy_of_every_dtype_of_a_variable_has_the_bytes_of_a_fetch() -> None:
    done = forked.run(f"DTYPES = {DTYPES!r}\n{EVERY_DTYPE}")
    assert (done.returncode, done.stdout.split()) == (0, ["all", str(len(DTYPES))]), done.stderr[
        -2000:
    ]


def _bytes_of_a_write(trainer: Any) -> int:
    """How much larger this process was at its largest while a copy was written than before."""
    import tempfile

    from tests.training.writing import write_bundle

    copy = trainer.state_for_save()
    Path("/proc/self/clear_refs").write_text("5")  # the greatest size is counted anew
    before = _size("VmRSS")
    with tempfile.TemporaryDirectory() as scratch:
        checksums(copy)
        nonfinite(copy)
        write_bundle(copy, trainer.graph, Path(scratch), "model.ckpt-3")
    return _size("VmHWM") - before


def _size(field: str) -> int:
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(f"{field}:")
    )
    return int(line.split()[1]) * 1024


@pytest.mark.turns(4, "what large ones cost")
@pytest.mark.tf
def test_writing_a_copy_takes_no_second_one(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks: Ranks = new_ranks(1)
    state = ranks.start(tf1_checkpoint("wide", megabytes=192))
    (grown,) = ranks.each("apply", _bytes_of_a_write)
    assert grown < state.size_bytes / 4, (
        f"{grown / 2**20:.0f} MiB beside a copy of {state.size_bytes / 2**20:.0f} MiB"
    )


def test_buffer_follows_shape_and_dtype_and_is_used_again_where_they_stay() -> None:
    buffers = HostBuffers()
    first = buffers.fill("v", np.arange(6, dtype=np.float32))
    assert buffers.fill("v", np.arange(6, 12, dtype=np.float32)) is first
    np.testing.assert_array_equal(first, np.arange(6, 12))
    for value in (
        np.arange(6, dtype=np.float64),
        np.zeros((2, 3), np.float64),
        np.float16(3.0),
        np.zeros((0, 4), np.int64),
    ):
        buffer = buffers.fill("v", value)  # type: ignore[arg-type]
        assert (buffer.shape, buffer.dtype) == (
            np.shape(value),
            np.asarray(value).dtype,
        )
        np.testing.assert_array_equal(buffer, value)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7, 3), (1000, 33)])
@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float32", "complex128"])
def test_aligned_memory_begins_where_tensorflow_reads_it_without_a_copy(
    shape: tuple[int, ...], dtype: str
) -> None:
    array = aligned(shape, np.dtype(dtype))
    assert (array.shape, array.dtype.name) == (shape, dtype)
    assert array.ctypes.data % ALIGNMENT == 0 or not array.size
    array[...] = 1
    assert np.count_nonzero(array) == array.size


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_a_single_bad_value_anywhere_is_found(bad: float, dtype: str) -> None:
    values = np.zeros((3_000_000,), dtype)
    values[-1] = bad
    assert nonfinite(
        State(1, {"good": np.ones(5, dtype), "bad": values, "number": np.ones(3, np.int64)})
    ) == ("bad",)
    assert (
        nonfinite(
            State(1, {"bad": values[:-1], f"{ENTRY_PREFIX}table": np.array([b"nan"], object)})
        )
        == ()
    )
