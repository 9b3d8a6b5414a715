"""How is an export laid out as a checkpoint of TensorFlow's?

Rule: TensorFlow's V2 format under the source's own keys, partitioned variables as whole tensors,
with a ``checkpoint`` file, so that ``latest_checkpoint`` finds it and any saver of these variables
restores it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.errors import CorruptCheckpoint
from orchestrator.exports.items import SAME, Item, ReadBack, Tensors, chunks_as_stored
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.protos import ITEM_BYTES
from orchestrator.store.bundle.tensor_writer import TensorWriter
from orchestrator.store.bundle.values import Chunk, Values
from orchestrator.store.checkpoints.pointer import pointer_text
from orchestrator.store.objects.layout import POINTER
from orchestrator.store.objects.location import Location

PREFIX = "model.ckpt"
AGAIN = "Delete the directory and export again; if it comes back, suspect the store"
HOLDS = {name: name for name in (*SAME, *ITEM_BYTES, "string")}
"""Every type but resources, variants and 4-bit integers."""


def write(directory: Path, items: Sequence[Item], values: Tensors) -> list[Path]:
    """Write the files; raises CorruptCheckpoint where a tensor of the source is damaged."""
    with TensorWriter(directory / PREFIX) as writer:
        for item in items:
            if item.dtype == "string":
                writer.add_strings(item.key, item.shape, values.strings(item.key))
            else:
                writer.add(item.key, item.dtype, item.shape, chunks_as_stored(values, item))
        writer.finish()
    pointer = directory / POINTER
    pointer.write_bytes(pointer_text(PREFIX, [PREFIX]))
    return [writer.data_file, writer.index_file, pointer]


def reader(directory: Location) -> ReadBack:
    """What was written, read back from where it lies. Raises CorruptCheckpoint."""
    return WrittenCheckpoint(directory)


class WrittenCheckpoint:
    """The files, read back."""

    def __init__(self, directory: Location) -> None:
        names = (f"{PREFIX}.index", f"{PREFIX}.data-00000-of-00001")
        files = [directory.child(name).info() for name in names]
        if files[0] is None:
            raise CorruptCheckpoint(
                f"{directory.child(names[0]).shown}, which was just written, isn't there",
                remedy=AGAIN,
            )
        self._index = read_index(files[0].location.read_bytes(), files[0].name)
        self._values = Values(self._index, files)

    def chunks(self, item: Item) -> Iterator[Chunk]:
        """See ``ReadBack``."""
        self._same(item)
        return self._values.chunks(item.key)

    def strings(self, item: Item) -> list[bytes]:
        """See ``ReadBack``."""
        self._same(item)
        return self._values.strings(item.key)

    def _same(self, item: Item) -> None:
        found = self._index.entries.get(item.key)
        if found is None or (found.dtype, found.shape) != (item.dtype, item.shape):
            raise CorruptCheckpoint(
                f"{PREFIX}.index doesn't hold {item.key!r} as it was written", remedy=AGAIN
            )
