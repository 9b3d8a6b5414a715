"""How does a string tensor lie in a data file?

Rule: the lengths of its elements, their checksum, then the text (``WriteStringTensor`` of
TensorFlow's ``util/tensor_bundle/tensor_bundle.cc``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import google_crc32c

from orchestrator.store.bundle.sstable import mask
from orchestrator.store.bundle.table_writer import varint


def packed_strings(strings: Iterable[bytes]) -> tuple[tuple[bytes, ...], int]:
    """What lies in a data file of the elements of a string tensor, and their checksum: lengths,
    their checksum, the text.
    """
    elements = list(strings)
    packed = b"".join(counted_length(len(text)) for text in elements)
    check = struct.pack("<I", mask(google_crc32c.value(packed)))
    crc = google_crc32c.value(packed + check)
    for text in elements:
        crc = google_crc32c.extend(crc, text)
    head = b"".join(varint(len(text)) for text in elements) + check
    return (head, *elements), crc


def counted_length(length: int) -> bytes:
    """What of an element's length goes into the checksum: 4 bytes, and 8 from 4 GiB on."""
    return struct.pack("<I" if length < 2**32 else "<Q", length)
