"""Checkpoints without TensorFlow: a writer of V2 bundles and of small graphs, in the formats that
TensorFlow reads.

``tests/store/test_bundle_tf.py`` lets TensorFlow read what this writes, so that the fake can't lie.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.types_pb2 import DataType

from orchestrator.store.bundle import protos
from orchestrator.store.bundle.protos import DTYPES
from orchestrator.store.bundle.sstable import MAGIC, mask

NUMBERS = {name: number for number, name in DTYPES.items()}
Tensors = Mapping[str, Any]


def table_bytes(items: Sequence[tuple[bytes, bytes]], per_block: int = 16) -> bytes:
    """A sorted table, uncompressed, as TensorFlow lays it out."""
    out, handles = bytearray(), []
    for start in range(0, max(len(items), 1), per_block):
        chunk = items[start : start + per_block]
        handles.append((chunk[-1][0] if chunk else b"", _append(out, _block(chunk))))
    meta = _append(out, _block([]))
    index = _append(out, _block(handles))
    footer = meta + index
    return bytes(out + footer + b"\0" * (40 - len(footer)) + struct.pack("<Q", MAGIC))


def _block(items: Sequence[tuple[bytes, bytes]]) -> bytes:
    out, restarts, previous = bytearray(), [], b""
    for number, (key, value) in enumerate(items):
        shared = 0
        if number % 4 == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(previous)) and key[shared] == previous[shared]:
                shared += 1
        out += (
            _varint(shared)
            + _varint(len(key) - shared)
            + _varint(len(value))
            + key[shared:]
            + value
        )
        previous = key
    restarts = restarts or [0]
    return bytes(
        out
        + b"".join(struct.pack("<I", point) for point in restarts)
        + struct.pack("<I", len(restarts))
    )


def _append(out: bytearray, block: bytes) -> bytes:
    handle = _varint(len(out)) + _varint(len(block))
    out += block + b"\0" + struct.pack("<I", mask(google_crc32c.value(block + b"\0")))
    return handle


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tensor_bytes(value: Any) -> tuple[str, tuple[int, ...], bytes, int]:
    """dtype, shape, bytes in the data file and their checksum. Lists of bytes are string tensors."""
    if isinstance(value, list):
        lengths = b"".join(struct.pack("<I", len(text)) for text in value)
        check = struct.pack("<I", mask(google_crc32c.value(lengths)))
        data = b"".join(_varint(len(text)) for text in value) + check + b"".join(value)
        return "string", (len(value),), data, google_crc32c.value(lengths + check + b"".join(value))
    array = np.asarray(value)
    data = array.tobytes()
    return array.dtype.name, array.shape, data, google_crc32c.value(data)


def write_bundle(directory: Path, prefix: str, tensors: Tensors, shards: int = 1) -> list[Path]:
    """Writes ``prefix.index`` and its data files; returns them, the index first."""
    directory.mkdir(parents=True, exist_ok=True)
    files = [directory / f"{prefix}.data-{shard:05d}-of-{shards:05d}" for shard in range(shards)]
    contents = [bytearray() for _ in files]
    items = [(b"", serialize("BundleHeader", num_shards=shards))]
    for number, key in enumerate(sorted(tensors, key=lambda key: key.encode())):
        dtype, shape, data, crc = tensor_bytes(tensors[key])
        shard = number % shards
        entry = {
            "dtype": NUMBERS[dtype],
            "shape": {"dim": [{"size": size} for size in shape]},
            "shard_id": shard,
            "offset": len(contents[shard]),
            "size": len(data),
            "crc32c": mask(crc),
        }
        items.append((key.encode(), serialize("BundleEntry", **entry)))
        contents[shard] += data
    for path, content in zip(files, contents, strict=True):
        path.write_bytes(content)
    index = directory / f"{prefix}.index"
    index.write_bytes(table_bytes(items))
    return [index, *files]


def meta_bytes(tensors: Tensors, extra_nodes: int = 0) -> bytes:
    """A graph with one variable per tensor and a saver over all of them, as ``tf.train.Saver``
    makes it.
    """
    meta = MetaGraphDef()
    meta.meta_info_def.tensorflow_version = "1.15.0"
    graph = meta.graph_def
    graph.versions.producer = 134
    names = sorted(tensors)
    dtypes = {name: tensor_bytes(tensors[name])[0] for name in names}
    numbers = [NUMBERS[dtypes[name]] for name in names]
    _const(graph, "save/Const", [b"model"], scalar=True)
    _const(graph, "save/RestoreV2/tensor_names", [name.encode() for name in names])
    _const(graph, "save/RestoreV2/shape_and_slices", [b""] * len(names))
    restore = graph.node.add(name="save/RestoreV2", op="RestoreV2")
    restore.input.extend(
        ["save/Const", "save/RestoreV2/tensor_names", "save/RestoreV2/shape_and_slices"]
    )
    restore.attr["dtypes"].list.type.extend(numbers)
    for output, name in enumerate(names):
        variable = graph.node.add(name=name, op="VariableV2")
        variable.attr["dtype"].type = NUMBERS[dtypes[name]]
        variable.attr["shape"].shape.SetInParent()
        for size in tensor_bytes(tensors[name])[1]:
            variable.attr["shape"].shape.dim.add(size=size)
        assign = graph.node.add(name=f"save/Assign_{output}", op="Assign")
        assign.input.extend([name, f"save/RestoreV2:{output}" if output else "save/RestoreV2"])
        assign.attr["T"].type = NUMBERS[dtypes[name]]
    done = graph.node.add(name="save/restore_all", op="NoOp")
    done.input.extend(f"^save/Assign_{output}" for output in range(len(names)))
    for number in range(extra_nodes):
        graph.node.add(name=f"extra_{number}", op="NoOp")
    meta.saver_def.filename_tensor_name = "save/Const:0"
    meta.saver_def.restore_op_name = "save/restore_all"
    meta.saver_def.save_tensor_name = "save/control_dependency:0"
    return bytes(meta.SerializeToString())


def _const(graph: Any, name: str, values: list[bytes], scalar: bool = False) -> None:
    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = DataType.DT_STRING
    tensor = node.attr["value"].tensor
    tensor.dtype = DataType.DT_STRING
    tensor.string_val.extend(values)
    if not scalar:
        tensor.tensor_shape.dim.add(size=len(values))


def model(step: int, rows: int = 8, seed: int = 0) -> dict[str, Any]:
    """The state of a small model at a step: every step differs in every tensor."""
    random = np.random.default_rng([seed, step])
    return {
        "dense/kernel": random.normal(size=(rows, 4)).astype(np.float32),
        "dense/bias": random.normal(size=4).astype(np.float32),
        "beta1_power": np.float32(0.9 ** (step + 1)),
        "global_step": np.int64(step),
    }


def write_checkpoint(
    directory: Path, prefix: str, tensors: Tensors, shards: int = 1, meta: bool = True
) -> list[Path]:
    """A whole checkpoint with its graph, without state file."""
    files = write_bundle(directory, prefix, tensors, shards)
    if meta:
        path = directory / f"{prefix}.meta"
        path.write_bytes(meta_bytes(tensors))
        files.append(path)
    return files


def write_pointer(directory: Path, named: str) -> None:
    """A state file that names ``named``, whatever that is."""
    escaped = named.replace("\\", "\\\\").replace('"', '\\"')
    (directory / "checkpoint").write_text(
        f'model_checkpoint_path: "{escaped}"\nall_model_checkpoint_paths: "{escaped}"\n'
    )


def serialize(kind: str, **fields: Any) -> bytes:
    """The bytes of a message of a checkpoint's files."""
    return bytes(protos._CLASSES[kind](**fields).SerializeToString())
