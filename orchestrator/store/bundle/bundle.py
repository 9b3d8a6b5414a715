"""Which tensors does a checkpoint hold, and where in its files do they lie?

Rule: the ``.index`` of TensorFlow's V2 format (and the table of V1, in ``bundle_v1``) is read and
checked in itself: known dtypes, sizes that fit the shapes, shards that exist. Whether the data
files agree is ``verification``'s question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, Literal

from orchestrator.errors import CorruptCheckpoint
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys, CheckpointTensor
from orchestrator.store.bundle.partitions import partition_problem, whole_extents
from orchestrator.store.bundle.protos import DTYPES, ITEM_BYTES, parse
from orchestrator.store.bundle.slice_keys import Extents, slice_of
from orchestrator.store.bundle.sstable import table_of, unmask

BIG_ENDIAN = 1
"""``BundleHeaderProto.Endianness.BIG`` of TensorFlow's ``core/protobuf/tensor_bundle.proto``."""
_REMEDY = "Use another checkpoint, or copy this one again"


@dataclass(frozen=True)
class BundleTensor:
    """One tensor, or one slice of a partitioned one.

    Attributes:
        key: its name in the checkpoint; for a slice the name of the whole tensor.
        dtype: lower-case name as in NumPy and ml_dtypes.
        shape: of the whole tensor; of the slice's own extent where this is a slice's data.
        shard: number of the data file.
        offset, size_bytes: where in that file; both 0 for a partitioned tensor, whose slices hold
            the data, and in V1.
        crc32c: unmasked, of the bytes as TensorFlow counts them; None in V1, where blocks carry the
            checksums.
        slices: how many slices hold its data; 0 where it's whole.
        extents: for a slice's data, which part of the whole tensor it is.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size_bytes: int = 0
    crc32c: int | None = None
    slices: int = 0
    extents: Extents = ()

    @property
    def elements(self) -> int:
        """How many elements the shape has."""
        return prod(self.shape)


@dataclass(frozen=True)
class BundleIndex:
    """What a checkpoint's index says.

    Attributes:
        num_shards: data files.
        entries: every named tensor by its key, partitioned ones as a whole.
        slice_data: where the slices of partitioned tensors lie.
    """

    format: Literal["V1", "V2"]
    num_shards: int
    entries: Mapping[str, BundleTensor] = field(repr=False)
    slice_data: tuple[BundleTensor, ...] = field(default=(), repr=False)

    def keys_for_graph(self) -> CheckpointKeys:
        """What ``graph`` wants to know: dtype and shape by key."""
        return {
            key: CheckpointTensor(tensor.dtype, tensor.shape)
            for key, tensor in self.entries.items()
        }

    @cached_property
    def pieces(self) -> tuple[BundleTensor, ...]:
        """Everything that lies in a data file, in file order."""
        whole = [tensor for tensor in self.entries.values() if not tensor.slices]
        return tuple(
            sorted([*whole, *self.slice_data], key=lambda piece: (piece.shard, piece.offset))
        )

    @cached_property
    def shard_bytes(self) -> Mapping[int, int]:
        """How long each data file has to be: the end of the last tensor in it. Files without any
        tensor are left out.
        """
        ends: dict[int, int] = {}
        for piece in self.pieces:
            ends[piece.shard] = max(ends.get(piece.shard, 0), piece.offset + piece.size_bytes)
        return ends

    def step_key(self) -> str | None:
        """The key of the global step where its name tells: ``global_step``, alone or under one
        scope; None if unclear.
        """
        scalars = [
            key
            for key, tensor in self.entries.items()
            if tensor.shape == () and tensor.dtype in ("int64", "int32")
        ]
        if "global_step" in scalars:
            return "global_step"
        scoped = [key for key in scalars if key.endswith("/global_step")]
        return scoped[0] if len(scoped) == 1 else None


def read_index(data: bytes, name: str = "the index") -> BundleIndex:
    """What the bytes of a ``.index`` file say.

    Args:
        name: of the file, for messages.

    Raises:
        CorruptCheckpoint: empty, truncated, damaged, or contradicting itself.
        SourceError: a Git LFS pointer instead of the file.
    """
    header, entries, slices = None, {}, []
    for key, value in table_of(data, name).items():
        if key == b"":
            header = _header(value, name)
        elif header is None:
            raise CorruptCheckpoint(f"{name} has no header record", remedy=_REMEDY)
        elif key[:1] == b"\0":
            whole, extents = slice_of(key, name)
            part = tensor_of_entry(whole, value, header.num_shards, name, of_slice=True)
            slices.append(replace(part, extents=extents))
        else:
            tensor = tensor_of_entry(
                key.decode("utf-8", "surrogateescape"), value, header.num_shards, name
            )
            entries[tensor.key] = tensor
    if header is None:
        raise CorruptCheckpoint(f"{name} holds no records at all", remedy=_REMEDY)
    _check_slices(entries, slices, name)
    return BundleIndex("V2", header.num_shards, entries, tuple(slices))


def _check_slices(
    entries: Mapping[str, BundleTensor], slices: Sequence[BundleTensor], name: str
) -> None:
    """Slices that lack a part are a checkpoint that TensorFlow doesn't restore."""
    by_key: dict[str, list[Extents]] = {}
    for part in slices:
        if part.key not in entries:
            raise CorruptCheckpoint(
                f"{name} has a slice of {part.key!r}, and no such tensor", remedy=_REMEDY
            )
        by_key.setdefault(part.key, []).append(whole_extents(part.extents, entries[part.key].shape))
    for key, tensor in entries.items():
        problem = partition_problem(by_key.get(key, ()), tensor.shape) if tensor.slices else ""
        if problem:
            raise CorruptCheckpoint(f"{name}: {key!r}: {problem}", remedy=_REMEDY)


def _header(value: bytes, name: str) -> Any:
    header = parse("BundleHeader", value, name)
    # As TensorFlow has it: anything but 1 is this machine's order, be it a byte that its writer
    # left uninitialised
    if header.endianness == BIG_ENDIAN:
        raise CorruptCheckpoint(
            f"{name} was written on a big-endian machine",
            remedy="Convert it there with TensorFlow: restore and save again",
        )
    if not 0 < header.num_shards <= 100_000:
        raise CorruptCheckpoint(f"{name} claims {header.num_shards} data files", remedy=_REMEDY)
    return header


def tensor_of_entry(
    key: str, value: bytes, num_shards: int, name: str, *, of_slice: bool = False
) -> BundleTensor:
    """What an index's record says of a tensor, if that can be. Raises CorruptCheckpoint."""
    entry = parse("BundleEntry", value, f"{name}, key {key!r}")
    dtype = DTYPES.get(entry.dtype)
    shape = tuple(dim.size for dim in entry.shape.dim)
    if dtype is None:
        raise CorruptCheckpoint(
            f"{name}: {key!r} has the unknown dtype {entry.dtype}", remedy=_REMEDY
        )
    if any(size < 0 for size in shape) or entry.offset < 0 or entry.size < 0:
        raise CorruptCheckpoint(f"{name}: {key!r} has a negative size or offset", remedy=_REMEDY)
    if not 0 <= entry.shard_id < num_shards:
        raise CorruptCheckpoint(
            f"{name}: {key!r} lies in data file {entry.shard_id} of {num_shards}", remedy=_REMEDY
        )
    tensor = BundleTensor(
        key,
        dtype,
        shape,
        entry.shard_id,
        entry.offset,
        entry.size,
        unmask(entry.crc32c),
        0 if of_slice else len(entry.slices),
    )
    expected = ITEM_BYTES.get(dtype)
    if (
        expected is not None
        and not tensor.slices
        and tensor.elements * expected != tensor.size_bytes
    ):
        raise CorruptCheckpoint(
            f"{name}: {key!r} is {dtype} {list(shape)}, {tensor.elements * expected} bytes, but claims {tensor.size_bytes}",
            remedy=_REMEDY,
        )
    return tensor
