"""Which tensor, and which part of it, does the key of a slice name?

Rule: TensorFlow's ordered code (``lib/strings/ordered_code.cc``, ``saved_tensor_slice_util.cc``):
the number 0, the name with escaped zeros, the rank, then start and length of each dimension as
signed numbers whose first bits tell how many bytes they take. A whole dimension is (0, -1).
"""

from __future__ import annotations

from orchestrator.errors import CorruptCheckpoint

Extents = tuple[tuple[int, int], ...]
"""(start, length) of each dimension; length -1 for a whole one."""
WHOLE_DIMENSION = -1
"""``TensorSlice::kFullExtent`` in ``tensorflow/core/framework/tensor_slice.h``."""
MAX_RANK = 254
"""TensorFlow's own limit; more is damage."""
_END_OF_NAME = b"\x00\x01"


def slice_of(key: bytes, file: str) -> tuple[str, Extents]:
    """The tensor's name, and the part of it that the key is of.

    Args:
        file: for messages.

    Raises:
        CorruptCheckpoint: this is no slice's key.
    """
    name, position = _name(key, file)
    try:
        width = key[position]
        rank = int.from_bytes(key[position + 1 : position + 1 + width], "big")
        position += 1 + width
        if rank > MAX_RANK:
            raise ValueError("a rank that no tensor has")
        numbers = []
        for _ in range(2 * rank):
            number, position = _signed(key, position)
            numbers.append(number)
        if position != len(key):  # cut behind its name, it would be the whole tensor's
            raise ValueError("more bytes or fewer than its rank has")
    except (IndexError, ValueError) as error:
        raise _damaged(file) from error
    return name, tuple(zip(numbers[::2], numbers[1::2], strict=True))


def name_prefix(name: str) -> bytes:
    """What the keys of all slices of a tensor begin with."""
    escaped = bytearray()
    for byte in name.encode("utf-8", "surrogateescape"):
        escaped.append(byte)
        if byte == 0x00:
            escaped.append(0xFF)
        elif byte == 0xFF:
            escaped.append(0x00)
    return b"\x00" + bytes(escaped) + _END_OF_NAME


def extents_of_spec(spec: str) -> tuple[tuple[int, ...], Extents]:
    """The shape of the whole tensor and the part that a spec of ``SaveV2`` names, such as
    ``10 3 0,4:0,3``; both empty for a whole tensor, whose spec is.
    """
    if not spec:
        return (), ()
    *sizes, part = spec.split(" ")
    pairs = [
        (0, WHOLE_DIMENSION) if text == "-" else tuple(map(int, text.split(",")))
        for text in part.split(":")
    ]
    return tuple(map(int, sizes)), tuple((start, length) for start, length in pairs)


def spec_of_extents(shape: tuple[int, ...], extents: Extents) -> str:
    """The spec that ``extents_of_spec`` reads as these; dimensions with their numbers."""
    part = ":".join(f"{start},{length}" for start, length in extents)
    return " ".join([*map(str, shape), part])


def slice_key(name: str, extents: Extents) -> bytes:
    """The key under which an index holds that part of a tensor: ``EncodeTensorNameSlice``."""
    rank = len(extents)
    width = (rank.bit_length() + 7) // 8
    numbers = b"".join(_signed_bytes(number) for extent in extents for number in extent)
    return name_prefix(name) + bytes([width]) + rank.to_bytes(width, "big") + numbers


def _name(key: bytes, file: str) -> tuple[str, int]:
    out, position = bytearray(), 1
    while position + 1 < len(key):
        pair = key[position : position + 2]
        if pair == _END_OF_NAME:
            return out.decode("utf-8", "surrogateescape"), position + 2
        if pair in (b"\x00\xff", b"\xff\x00"):
            out.append(pair[0])
            position += 2
        else:
            out.append(key[position])
            position += 1
    raise _damaged(file)


def _signed(key: bytes, position: int) -> tuple[int, int]:
    """The signed number at ``position``, and the position after it. As many leading ones as it has
    bytes, then 7 bits of value for each byte, the first of them the sign; a negative number has
    every bit turned over.
    """
    flip = 0x00 if key[position] & 0x80 else 0xFF
    width = 0
    while (key[position + width // 8] ^ flip) & (0x80 >> width % 8):
        width += 1
        if width > 10:
            raise ValueError("a number of more than ten bytes")
    raw = bytes(byte ^ flip for byte in key[position : position + width])
    value = int.from_bytes(raw, "big") & ((1 << 7 * width) - 1)
    return (~value if flip else value), position + width


def _signed_bytes(value: int) -> bytes:
    """What ``_signed`` reads."""
    size = value if value >= 0 else ~value
    width = size.bit_length() // 7 + 1
    ones = ((1 << width) - 1) << 7 * width
    number = (ones | size).to_bytes(width, "big")
    return number if value >= 0 else bytes(byte ^ 0xFF for byte in number)


def _damaged(file: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"{file} has a damaged slice key", remedy="Use another checkpoint, or copy this one again"
    )
