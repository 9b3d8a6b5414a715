"""How is a checkpoint written without TensorFlow?

Rule: V2 format, one data file, which grows tensor by tensor and piece by piece; the index, which
holds every tensor's checksum, is written last. TensorFlow reads it as one of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import google_crc32c

from orchestrator.store.bundle.in_memory import packed_strings
from orchestrator.store.bundle.protos import DTYPE_NUMBERS, serialized
from orchestrator.store.bundle.sstable import mask
from orchestrator.store.bundle.table_writer import table_bytes
from orchestrator.store.bundle.values import Chunk


class TensorWriter:
    """Writes ``PREFIX.data-00000-of-00001`` and, at ``finish``, ``PREFIX.index``."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self.data_file = prefix.with_name(f"{prefix.name}.data-00000-of-00001")
        self.index_file = prefix.with_name(f"{prefix.name}.index")
        self._data = open(self.data_file, "wb")  # noqa: SIM115  closed by __exit__
        self._offset = 0
        self._entries: dict[bytes, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._data.close()

    def add(self, key: str, dtype: str, shape: tuple[int, ...], chunks: Iterable[Chunk]) -> None:
        """A tensor of numbers, from its bytes in C order."""
        crc, start = 0, self._offset
        for chunk in chunks:
            self._data.write(chunk)
            crc = google_crc32c.extend(crc, bytes(chunk))
            self._offset += len(chunk)
        self._enter(key, dtype, shape, start, crc)

    def add_strings(self, key: str, shape: tuple[int, ...], strings: Iterable[bytes]) -> None:
        """A string tensor, from its elements in C order: lengths, their checksum, the text."""
        start = self._offset
        pieces, crc = packed_strings(strings)
        for piece in pieces:
            self._data.write(piece)
            self._offset += len(piece)
        self._enter(key, "string", shape, start, crc)

    def _enter(self, key: str, dtype: str, shape: tuple[int, ...], start: int, crc: int) -> None:
        self._entries[key.encode("utf-8", "surrogateescape")] = serialized(
            "BundleEntry",
            dtype=DTYPE_NUMBERS[dtype],
            shape={"dim": [{"size": size} for size in shape]},
            offset=start,
            size=self._offset - start,
            crc32c=mask(crc),
        )

    def finish(self) -> None:
        """Writes the index; the checkpoint is whole afterwards."""
        self._data.close()
        header = serialized("BundleHeader", num_shards=1, version={"producer": 1})
        items = [(b"", header), *sorted(self._entries.items())]
        self.index_file.write_bytes(table_bytes(items))
