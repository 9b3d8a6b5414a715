"""Shards of the old V1 format without TensorFlow, laid out as ``saved_tensor_slice_util.cc`` does.

The values are TensorBoard's copy of TensorFlow's own ``TensorProto``; the corpus of third-party
checkpoints and ``tests/store/test_values_tf.py`` hold what reads them against real files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.store.bundle import protos
from orchestrator.store.bundle.slice_keys import Extents, slice_key
from tests.fakes.bundles import NUMBERS, meta_bytes, serialize, table_bytes

_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "string": "string_val",
}


class Part(NamedTuple):
    """One slice of a tensor, of the shape of the whole; all of it without extents.

    Attributes:
        values: an array, or texts.
        data: TensorFlow's message of the values where it isn't the usual one.
    """

    key: str
    shape: tuple[int, ...]
    values: Any
    extents: Extents = ()
    data: bytes | None = None

    @property
    def dtype(self) -> str:
        """As in ``BundleTensor``."""
        return "string" if isinstance(self.values, list) else str(self.values.dtype.name)


def whole(key: str, values: Any) -> Part:
    """A tensor in one slice."""
    return Part(key, (len(values),) if isinstance(values, list) else values.shape, values)


def tensor_proto(values: Any) -> bytes:
    """How a saver of V1 writes values: neither dtype nor shape, which its table of contents has."""
    tensor = TensorProto()
    if isinstance(values, list):
        tensor.string_val.extend(values)
    elif values.dtype.name in ("complex64", "complex128"):
        field = "scomplex_val" if values.dtype.name == "complex64" else "dcomplex_val"
        getattr(tensor, field).extend(values.reshape(-1).view(values.real.dtype).tolist())
    elif values.dtype.name == "float16":
        tensor.half_val.extend(values.reshape(-1).view(np.uint16).tolist())
    else:
        getattr(tensor, _FIELDS.get(values.dtype.name, "int_val")).extend(
            values.reshape(-1).tolist()
        )
    return bytes(tensor.SerializeToString())


def record(key: str, data: bytes) -> bytes:
    """The value under a slice's key."""
    tensor = protos._CLASSES["V1Tensor"]()
    tensor.ParseFromString(data)
    return serialize(
        "V1Entry", data={"name": key.encode("utf-8", "surrogateescape"), "data": tensor}
    )


def shard_bytes(parts: Sequence[Part], per_block: int = 16) -> bytes:
    """One shard, whose table of contents names the tensors that it has parts of."""
    tensors: dict[str, dict[str, Any]] = {}
    items: list[tuple[bytes, bytes]] = []
    for part in parts:
        extents = part.extents or ((0, -1),) * len(part.shape)
        told = tensors.setdefault(
            part.key,
            {
                "name": part.key.encode("utf-8", "surrogateescape"),
                "type": NUMBERS[part.dtype],
                "shape": {"dim": [{"size": size} for size in part.shape]},
                "slice": [],
            },
        )
        told["slice"].append(
            {
                "extent": [
                    {} if length == -1 else {"start": start, "length": length}
                    for start, length in extents
                ]
            }
        )
        data = tensor_proto(part.values) if part.data is None else part.data
        items.append((slice_key(part.key, extents), record(part.key, data)))
    contents = serialize("V1Entry", meta={"tensor": list(tensors.values())})
    return table_bytes([(b"", contents), *sorted(items)], per_block)


def write_v1(directory: Path, prefix: str, *shards: Sequence[Part]) -> list[Path]:
    """The files of a sharded checkpoint."""
    paths = [
        directory / f"{prefix}-{number:05d}-of-{len(shards):05d}" for number in range(len(shards))
    ]
    for path, parts in zip(paths, shards, strict=True):
        path.write_bytes(shard_bytes(parts))
    return paths


def write_v1_checkpoint(directory: Path, prefix: str, *shards: Mapping[str, Any]) -> list[Path]:
    """A checkpoint of one file, or of one for each of several shards, and its graph; each record
    has a block of its own, so that one can be damaged and not its neighbours.
    """
    directory.mkdir(parents=True, exist_ok=True)
    count = len(shards)
    names = [f"{prefix}-{number:05d}-of-{count:05d}" for number in range(count)]
    files = [directory / name for name in (names if count > 1 else [prefix])]
    for file, tensors in zip(files, shards, strict=True):
        parts = [whole(key, np.asarray(value)) for key, value in tensors.items()]
        file.write_bytes(shard_bytes(parts, per_block=1))
    everything = {key: value for tensors in shards for key, value in tensors.items()}
    (directory / f"{prefix}.meta").write_bytes(meta_bytes(everything))
    return files
