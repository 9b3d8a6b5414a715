"""TensorFlow is the judge of checkpoints in slices: what ranks write apart, it restores as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from orchestrator.exports.export import export
from orchestrator.exports.salvage import salvage
from orchestrator.store.bundle.data_writer import DataWriter
from orchestrator.store.bundle.index_writer import write_index
from orchestrator.store.bundle.partitions import SLICEABLE
from orchestrator.store.bundle.protos import DTYPES
from orchestrator.store.bundle.slice_keys import extents_of_spec
from orchestrator.store.bundle.sstable import table_of
from orchestrator.store.checkpoints.source import resolve_source
from tests import forked
from tests.store.slices import add_rows, shares, write_sliced

pytestmark = pytest.mark.tf

ROWS, COLUMNS = 7, 3

ITS_OWN = """
import sys, json, pathlib
import numpy as np
import tensorflow as tf
tf1 = tf.compat.v1
tf1.disable_eager_execution()
directory, kinds = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])

def value(kind, rows):
    numbers = np.arange(21).reshape(7, 3)[slice(*rows)]
    if kind == "string":
        return tf.as_string(tf.constant(numbers))
    wide = {"qint8": "int8", "quint8": "uint8", "qint16": "int16", "quint16": "uint16", "qint32": "int32"}
    plain = tf.constant(numbers.astype(tf.as_dtype(wide.get(kind, kind)).as_numpy_dtype))
    return tf.bitcast(plain, kind) if kind in wide else plain

refused = []
for kind in kinds:
    with tf1.Graph().as_default(), tf1.Session() as session:
        parts = []
        for rank, rows in enumerate([(0, 2), (2, 4), (4, 7)]):
            part = str(directory / f"{kind}_temp" / f"part-{rank:05d}-of-00003")
            spec = f"7 3 {rows[0]},{rows[1] - rows[0]}:0,3"
            session.run(tf.raw_ops.SaveV2(prefix=part, tensor_names=["t"], shape_and_slices=[spec], tensors=[value(kind, rows)]))
            parts.append(part)
        session.run(tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(directory / kind)))
    with tf1.Graph().as_default(), tf1.Session() as session:
        got = tf.raw_ops.RestoreV2(prefix=str(directory / kind), tensor_names=["t"], shape_and_slices=[""], dtypes=[kind])[0]
        try:
            session.run(got.op)
        except tf.errors.InvalidArgumentError as error:
            assert "not supported" in str(error), error
            refused.append(kind)
print(json.dumps(refused))
"""

GET = """
import sys, json
import numpy as np
import tensorflow as tf
tf1 = tf.compat.v1
found = {}
for prefix in sys.argv[2:]:
    reader = tf1.train.NewCheckpointReader(prefix)
    assert sorted(reader.get_variable_to_shape_map()) == sorted(tf.train.load_checkpoint(prefix).get_variable_to_shape_map())
    for key in reader.get_variable_to_shape_map():
        value = np.asarray(reader.get_tensor(key))
        raw = b"|".join(value.reshape(-1)) if value.dtype.kind == "O" else value.tobytes()
        found[prefix.rpartition("/")[2] + ":" + key] = np.frombuffer(raw, np.uint8)
np.savez(sys.argv[1], **found)
"""

PARTITIONED = """
import sys, json
import numpy as np
import tensorflow as tf
tf1 = tf.compat.v1
tf1.disable_eager_execution()

def build():
    with tf1.device(tf1.train.replica_device_setter(ps_tasks=2)):
        tf1.get_variable("rows", [11, 3], partitioner=tf1.fixed_size_partitioner(3))
        tf1.get_variable("columns", [5, 7], partitioner=tf1.fixed_size_partitioner(2, axis=1))
        tf1.train.get_or_create_global_step()

prefix, given = sys.argv[1:3]
values = np.load(given)
with tf1.Graph().as_default() as graph:
    build()
    assert {v.op.name: v.device for v in tf1.global_variables()}["rows/part_1"].startswith("/job:ps"), "no parameter server"
    tf1.train.Saver().export_meta_graph(prefix + ".meta")
if "--save" in sys.argv:
    with tf1.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.import_meta_graph(prefix + ".meta", clear_devices=True)
        for variable in tf1.global_variables():
            name, _, part = variable.op.name.partition("/part_")
            value = values[name] if part else np.int64(5)
            if name == "rows":
                value = value[4 * int(part) : 4 * int(part) + 4]
            elif part:
                value = value[:, :4] if part == "0" else value[:, 4:]
            session.run(tf1.assign(variable, value))
        saver.save(session, prefix, write_meta_graph=False)
        print("saved")
else:
    with tf1.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.import_meta_graph(prefix + ".meta", clear_devices=True)
        saver.restore(session, prefix)
        parts = {v.op.name: session.run(v) for v in tf1.global_variables()}
    assert (np.concatenate([parts[f"rows/part_{n}"] for n in range(3)]) == values["rows"]).all()
    assert (np.concatenate([parts[f"columns/part_{n}"] for n in range(2)], axis=1) == values["columns"]).all()
    assert parts["global_step"] == 5
    print("restored", [p.shape for p in parts.values()])
"""


def _run(program: str, *words: object) -> str:
    done = forked.run(program, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _numbers(dtype: str) -> np.ndarray:
    wide = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
    numbers = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    kind: Any = ml_dtypes.bfloat16 if dtype == "bfloat16" else wide.get(dtype, dtype)
    return numbers.astype(kind)


def _records(index: Path) -> dict[bytes, bytes]:
    return dict(table_of(index.read_bytes(), index.name).items())


def test_slices_of_every_type_are_laid_out_as_tensorflow_lays_them_out(tmp_path: Path) -> None:
    kinds = sorted(set(DTYPES.values()) - {"resource", "variant", "int4", "uint4"})
    refused = json.loads(_run(ITS_OWN, tmp_path, json.dumps(kinds)).splitlines()[-1])
    assert set(kinds) - set(refused) == SLICEABLE  # TensorFlow restores just these
    for kind in sorted(SLICEABLE):
        reports = []
        for rank, (start, stop) in enumerate([(0, 2), (2, 4), (4, 7)]):
            with DataWriter(tmp_path / f"{kind}-1", rank, 3) as writer:
                content = [_numbers(kind)[start:stop].tobytes()]
                add_rows(writer, "t", kind, (ROWS, COLUMNS), start, stop, content)
                reports.append(writer.close())
        ours = write_index(tmp_path / f"{kind}-1", reports[::-1])
        assert _records(ours) == _records(tmp_path / f"{kind}.index"), kind
        for rank in range(3):
            tail = f"data-{rank:05d}-of-00003"
            mine, its = tmp_path / f"{kind}-1.{tail}", tmp_path / f"{kind}.{tail}"
            assert mine.read_bytes() == its.read_bytes(), (kind, rank)


@pytest.mark.parametrize("ranks", [1, 2, 5, 9])
def test_tables_of_any_number_of_ranks_are_whole_tensors_to_tensorflow(
    tmp_path: Path, ranks: int
) -> None:
    rng = np.random.default_rng(ranks)
    tables: dict[str, np.ndarray] = {
        "emb": rng.normal(size=(1000, 16)).astype(np.float32),
        "emb/Adam": rng.normal(size=(1000, 16)).astype(np.float32),
        "deep": rng.normal(size=(6, 2, 3)).astype(np.float64),
        "few": np.arange(4, dtype=np.int64),  # fewer rows than ranks
        "none": np.zeros((0, 3), np.float32),
        "half": rng.normal(size=(8, 2)).astype(ml_dtypes.bfloat16),
    }
    whole: dict[str, Any] = {
        "global_step": np.int64(7),
        "words": [b"a", b"", b"two"],
        "w": np.array([1, 2], np.float16),
    }
    write_sliced(tmp_path, "m-7", ranks, tables, whole)
    _run(GET, tmp_path / "values.npz", tmp_path / "m-7")
    with np.load(tmp_path / "values.npz") as found:
        assert len(found.files) == len(tables) + len(whole)
        for key, array in tables.items():
            assert found[f"m-7:{key}"].tobytes() == array.tobytes(), key
        assert found["m-7:words"].tobytes() == b"a||two"
        assert found["m-7:w"].tobytes() == whole["w"].tobytes()


def test_partitioned_variables_split_over_ranks_are_restored_by_their_own_saver(
    tmp_path: Path,
) -> None:
    """As ``fixed_size_partitioner`` makes them on ``/job:ps``: each part's rows are dealt anew, by
    rows of a part of columns too.
    """
    rng = np.random.default_rng(0)
    values: dict[str, Any] = {
        name: rng.normal(size=size).astype(np.float32) for name, size in SIZES.items()
    }
    np.savez(tmp_path / "values.npz", **values)
    reports = []
    for rank in range(3):
        with DataWriter(tmp_path / "m-5", rank, 3) as writer:
            for key, specs in SPECS.items():
                for spec in specs:
                    shape, ((first, rows), *rest) = extents_of_spec(spec)
                    start, stop = shares(rows, 3)[rank]
                    extents = ((first + start, stop - start), *rest)
                    block = tuple(slice(at, at + size) for at, size in extents)
                    content = [np.ascontiguousarray(values[key][block]).tobytes()]
                    writer.add_part(key, "float32", shape, extents, content)
            if rank == 1:
                writer.add("global_step", "int64", (), [np.int64(5).tobytes()])
            reports.append(writer.close())
    write_index(tmp_path / "m-5", reports)
    assert "restored" in _run(PARTITIONED, tmp_path / "m-5", tmp_path / "values.npz")


def test_partitioned_variables_of_tf1_are_verified_exported_and_salvaged_whole(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(1)
    values: dict[str, Any] = {
        name: rng.normal(size=size).astype(np.float32) for name, size in SIZES.items()
    }
    np.savez(tmp_path / "values.npz", **values)
    (tmp_path / "run").mkdir()
    prefix = tmp_path / "run" / "m-5"
    assert "saved" in _run(PARTITIONED, prefix, tmp_path / "values.npz", "--save")
    source = resolve_source(str(prefix), deep=True)
    assert source.index is not None
    assert [source.index.entries[key].slices for key in ("rows", "columns")] == [3, 2]
    export(str(prefix), str(tmp_path / "npz"), to="npz", everything=True)
    with np.load(tmp_path / "npz" / "model.npz") as held:
        assert {key: held[key].tobytes() for key in values} == {
            key: value.tobytes() for key, value in values.items()
        }
    export(str(prefix), str(tmp_path / "whole"), to="checkpoint", everything=True)
    _run(GET, tmp_path / "whole.npz", tmp_path / "whole" / "model.ckpt", prefix)
    with np.load(tmp_path / "whole.npz") as found:
        for key in values:
            assert found[f"model.ckpt:{key}"].tobytes() == found[f"m-5:{key}"].tobytes()
    assert set(salvage(str(prefix), str(tmp_path / "saved")).saved) == {*values, "global_step"}


SIZES = {"rows": (11, 3), "columns": (5, 7)}
SPECS = {
    "rows": ["11 3 0,4:0,3", "11 3 4,4:0,3", "11 3 8,3:0,3"],
    "columns": ["5 7 0,5:0,4", "5 7 0,5:4,3"],
}
