"""TensorFlow is the judge: what it writes is read here, and what the tests' fake writes, it reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.deep_verify import damaged_tensors
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lineage import record_takeover
from tests import forked
from tests.fakes.bundles import write_checkpoint
from tests.store.runs import saved

pytestmark = pytest.mark.tf

WRITE = """
import json, sys
import tensorflow as tf
tf1 = tf.compat.v1
tf1.disable_eager_execution()
directory = sys.argv[1]
with tf1.Graph().as_default():
    tf1.set_random_seed(1)
    tf1.get_variable("w", [64, 8])
    tf1.get_variable("parts", [10, 3], partitioner=tf1.fixed_size_partitioner(3))
    tf1.get_variable("texts", initializer=tf.constant(["", "one", "zwei"]), dtype=tf.string)
    tf1.get_variable("half", [5], dtype=tf.bfloat16)
    tf1.get_variable("r", [4], use_resource=True)
    tf1.train.get_or_create_global_step().assign(77)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        session.run(tf1.train.get_global_step().assign(77))
        tf1.train.Saver().save(session, directory + "/v2", global_step=77)
        tf1.train.Saver(sharded=True).save(session, directory + "/sharded", global_step=77)
        session.run(tf1.train.get_global_step().assign(0))
        old = [v for v in tf1.global_variables() if v.op.name != "half"]  # V1 has no bfloat16
        tf1.train.Saver(old, write_version=tf1.train.SaverDef.V1).save(session, directory + "/v1", global_step=77)
reader = tf.train.load_checkpoint(directory + "/v2-77")
shapes = reader.get_variable_to_shape_map()
print(json.dumps({k: [reader.get_variable_to_dtype_map()[k].name, shapes[k]] for k in shapes}))
"""

READ = """
import json, sys
import tensorflow as tf
reader = tf.train.load_checkpoint(sys.argv[1])
values = {k: reader.get_tensor(k) for k in reader.get_variable_to_shape_map()}
tf1 = tf.compat.v1
tf1.disable_eager_execution()
saver = tf1.train.import_meta_graph(sys.argv[1] + ".meta")
with tf1.Session() as session:
    saver.restore(session, sys.argv[1])
    restored = session.run("dense/kernel:0")
print(json.dumps([int(values["global_step"]), values["dense/kernel"].tolist(), restored.tolist(), values["words"].tolist()[1].decode()]))
"""


def python(code: str, *arguments: str) -> str:
    done = forked.run(code, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[object]]]:
    """A directory with V2, sharded V2 and V1 checkpoints, and what TensorFlow says of them."""
    directory = tmp_path_factory.mktemp("tf")
    return directory, json.loads(python(WRITE, str(directory)))


@pytest.mark.parametrize("name", ["v2", "sharded"])
def test_index_of_tensorflow_holds_what_tensorflow_says(
    written: tuple[Path, dict[str, list[object]]], name: str
) -> None:
    directory, said = written
    index = read_index((directory / f"{name}-77.index").read_bytes())
    assert {
        key: [tensor.dtype, list(tensor.shape)] for key, tensor in index.entries.items()
    } == said
    assert index.entries["parts"].slices == 3
    assert [piece.key for piece in index.slice_data] == ["parts"] * 3


@pytest.mark.parametrize(("name", "step"), [("v2", 77), ("sharded", 77), ("v1", 0)])
def test_checkpoint_of_tensorflow_verifies_to_the_last_byte(
    written: tuple[Path, dict[str, list[object]]], name: str, step: int
) -> None:
    source = resolve_source(str(written[0] / f"{name}-77"), deep=True)
    assert (source.step, source.name, source.step_in_name) == (step, name, 77)
    expected = {key: value[1] for key, value in written[1].items() if name != "v1" or key != "half"}
    assert {
        key: list(tensor.shape or ()) for key, tensor in (source.keys() or {}).items()
    } == expected


def test_checkpoint_of_tensorflow_with_any_tensor_damaged_is_named(
    written: tuple[Path, dict[str, list[object]]],
) -> None:
    source = resolve_source(str(written[0] / "v2-77"))
    assert source.index is not None
    data_file = written[0] / "v2-77.data-00000-of-00001"
    good = data_file.read_bytes()
    try:
        for piece in source.index.pieces:
            damaged = bytearray(good)
            damaged[piece.offset + piece.size_bytes - 1] ^= 4
            data_file.write_bytes(damaged)
            (problem,) = damaged_tensors(source.index, source.files)
            assert repr(piece.key) in problem
    finally:
        data_file.write_bytes(good)


def test_fake_bundle_is_read_and_restored_by_tensorflow(tmp_path: Path) -> None:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = {
        "dense/kernel": kernel,
        "global_step": np.int64(9),
        "words": [b"a", b"two"],
        "z": np.zeros((3, 2), np.int32),
    }
    write_checkpoint(tmp_path, "m-9", tensors, shards=2)
    assert json.loads(python(READ, str(tmp_path / "m-9"))) == [
        9,
        kernel.tolist(),
        kernel.tolist(),
        "two",
    ]


POINTED = """
import json, sys
import tensorflow as tf
newest = tf.train.latest_checkpoint(sys.argv[1])
state = tf.compat.v1.train.get_checkpoint_state(sys.argv[1])
print(json.dumps([newest, list(state.all_model_checkpoint_paths), int(tf.train.load_variable(newest, "global_step"))]))
"""


def test_output_is_found_by_tensorflow_itself_also_after_a_move(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / 'an "odd" näme'))
    record_takeover(output, 1, 1, 0)
    for step in (10, 20):
        saved(output, step)
    moved = tmp_path / "moved"
    Path(output.path).rename(moved)
    newest, paths, step = json.loads(python(POINTED, str(moved)))
    assert newest == str(moved / "a0001-g0001/model.ckpt-20")
    assert paths == [str(moved / f"a0001-g0001/model.ckpt-{number}") for number in (10, 20)]
    assert step == 20
