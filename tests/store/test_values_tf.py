"""TensorFlow is the judge of values: what it saved in either format is read here, and what is written
here, it reads.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.bundle import BundleIndex, read_index
from orchestrator.store.bundle.joint_crc import joint_problems
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.row_reader import RowReader
from orchestrator.store.bundle.sstable import Table
from orchestrator.store.bundle.tensor_writer import TensorWriter
from orchestrator.store.bundle.v1 import read_v1
from orchestrator.store.bundle.values import Values
from orchestrator.store.objects.location import FileInfo, open_location
from tests import forked
from tests.store.slices import shares

pytestmark = pytest.mark.tf

V1_LACKS = {"bfloat16", "complex128", "uint16", "float16"}

WRITE = """
import sys, numpy as np
import tensorflow as tf
tf1 = tf.compat.v1
tf1.disable_eager_execution()
directory = sys.argv[1]
rng = np.random.default_rng(0)
kinds = ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool",
         "complex64", "complex128", "uint16"]
with tf1.Graph().as_default():
    for kind in kinds:
        values = (rng.normal(size=(3, 5)) * 100).astype(np.complex128 if "complex" in kind else np.float64)
        tf1.get_variable(kind, initializer=tf.cast(values, kind))
    tf1.get_variable("scalar", initializer=np.int64(-7))
    tf1.get_variable("nothing", shape=[0, 3])
    tf1.get_variable("large", initializer=rng.normal(size=[1500, 1700]).astype(np.float32))
    tf1.get_variable("rows", [10, 3], partitioner=tf1.fixed_size_partitioner(3))
    tf1.get_variable("columns", [4, 300], partitioner=tf1.fixed_size_partitioner(3, axis=1))
    tf1.get_variable("many_rows", [200000, 2], partitioner=tf1.fixed_size_partitioner(7))
    tf1.get_variable("texts", initializer=tf.constant([["", "one"], ["zwei", "a\\0b"]]), dtype=tf.string)
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver(sharded=True).save(session, directory + "/v2")
        old = [v for v in tf1.global_variables() if v.dtype.base_dtype.name not in ("bfloat16", "complex128", "uint16", "float16")]
        tf1.train.Saver(old, write_version=tf1.train.SaverDef.V1, sharded=True).save(session, directory + "/v1")
"""

VALUES = """
import sys, numpy as np
import tensorflow as tf
reader = tf.compat.v1.train.NewCheckpointReader(sys.argv[1])
found = {}
for key in reader.get_variable_to_shape_map():
    value = np.asarray(reader.get_tensor(key))
    found[key] = value if value.dtype.kind == "O" else np.frombuffer(value.tobytes(), np.uint8)
np.savez(sys.argv[2], allow_pickle=True, **found)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("values")
    done = forked.run(WRITE, directory)
    assert done.returncode == 0, done.stderr
    return directory


def _files(directory: Path, pattern: str) -> list[FileInfo]:
    found = open_location(str(directory)).list()
    return [file for file in found if Path(file.name).match(pattern)]


def _v2(directory: Path, name: str) -> tuple[BundleIndex, list[FileInfo]]:
    files = [*_files(directory, f"{name}.index"), *_files(directory, f"{name}.data-*")]
    return read_index(files[0].location.read_bytes()), files


def _v1(directory: Path) -> tuple[BundleIndex, list[FileInfo]]:
    files = _files(directory, "v1-?????-of-?????")
    tables = [
        (file.name, Table(file.location.read_bytes, file.size_bytes, file.name)) for file in files
    ]
    return read_v1(tables), files


def _tensorflow(prefix: Path, scratch: Path) -> dict[str, np.ndarray]:
    done = forked.run(VALUES, prefix, scratch / "values.npz")
    assert done.returncode == 0, done.stderr
    with np.load(scratch / "values.npz", allow_pickle=True) as found:
        return {key: found[key] for key in found.files if key != "allow_pickle"}


def _same(values: Values, index: BundleIndex, expected: dict[str, np.ndarray]) -> None:
    assert set(index.entries) == set(expected)
    for key, tensor in index.entries.items():
        if tensor.dtype == "string":
            assert values.strings(key) == list(expected[key].reshape(-1)), key
        else:
            assert b"".join(values.chunks(key)) == expected[key].tobytes(), key


def test_values_of_tensorflows_v2_checkpoint_are_tensorflows_byte_for_byte(
    saved: Path, tmp_path: Path
) -> None:
    index, files = _v2(saved, "v2")
    assert index.entries["columns"].slices == 3
    _same(Values(index, files), index, _tensorflow(saved / "v2", tmp_path))


def test_values_of_tensorflows_v1_checkpoint_are_those_of_its_v2_checkpoint(saved: Path) -> None:
    index, files = _v1(saved)
    assert index.entries["columns"].slices == 3
    newer, newer_files = _v2(saved, "v2")
    old, new = Values(index, files), Values(newer, newer_files)
    assert set(index.entries) == set(newer.entries) - V1_LACKS
    for key, tensor in index.entries.items():
        if tensor.dtype == "string":
            assert old.strings(key) == new.strings(key), key
        else:
            assert b"".join(old.chunks(key)) == b"".join(new.chunks(key)), key


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tensors_that_are_written_without_tensorflow_are_read_by_it(
    saved: Path, tmp_path: Path, version: str
) -> None:
    index, files = _v1(saved) if version == "v1" else _v2(saved, "v2")
    values = Values(index, files)
    with TensorWriter(tmp_path / "again") as writer:
        for key, tensor in index.entries.items():
            if tensor.dtype == "string":
                writer.add_strings(key, tensor.shape, values.strings(key))
            else:
                writer.add(key, tensor.dtype, tensor.shape, values.chunks(key))
        writer.finish()
    again, copies = _v2(tmp_path, "again")
    assert {key: (one.dtype, one.shape) for key, one in again.entries.items()} == {
        key: (one.dtype, one.shape) for key, one in index.entries.items()
    }
    _same(Values(again, copies), again, _tensorflow(tmp_path / "again", tmp_path))


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_rows_of_tensorflows_checkpoint_are_those_of_its_values(saved: Path, version: str) -> None:
    """Whole tensors, slices by rows and slices by columns, in either format."""
    index, files = _v1(saved) if version == "v1" else _v2(saved, "v2")
    values, rows = Values(index, files), RowReader(index, files)
    reads, seen = [], 0
    for key, tensor in index.entries.items():
        if not tensor.shape or tensor.dtype == "string":
            continue
        content = b"".join(values.chunks(key))
        row_bytes = len(content) // max(1, tensor.shape[0])
        for start, stop in shares(tensor.shape[0], 4):
            into = bytearray((stop - start) * row_bytes)
            reads += rows.read(key, start, stop, memoryview(into))
            assert into == content[start * row_bytes : stop * row_bytes], (key, start, stop)
            seen += 1
    assert seen >= 4 * 14
    assert bool(reads) == (version == "v2")  # blocks of V1 carry their own checksums
    assert joint_problems(reads) == []


def test_values_of_a_damaged_tensor_are_refused_and_the_others_are_given(
    saved: Path, tmp_path: Path
) -> None:
    for file in saved.glob("v2.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    index, files = _v2(tmp_path, "v2")
    piece = index.entries["float64"]
    assert piece.size_bytes == 15 * ITEM_BYTES["float64"]
    path = Path(files[1 + piece.shard].location.path)
    content = bytearray(path.read_bytes())
    content[piece.offset + 3] ^= 1
    path.write_bytes(content)
    values = Values(index, files)
    with pytest.raises(CorruptCheckpoint, match="'float64' fails its checksum"):
        list(values.chunks("float64"))
    assert b"".join(values.chunks("float32"))
