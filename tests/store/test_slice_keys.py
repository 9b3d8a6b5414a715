"""Is a slice's key what TensorFlow writes, read back as it was, and damage refused?

The bytes are those of ``OrderedCode`` in TensorFlow's ``lib/strings/ordered_code.cc``.
"""

from __future__ import annotations

import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.slice_keys import (
    Extents,
    extents_of_spec,
    name_prefix,
    slice_key,
    slice_of,
    spec_of_extents,
)

NAME = b"\x00t\x00\x01"
"""What the keys of a tensor called t begin with."""


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "80"),
        (-1, "7f"),
        (63, "bf"),
        (64, "c040"),
        (-64, "40"),
        (-65, "3fbf"),
        (8191, "dfff"),
        (8192, "e02000"),
        (2**55 - 1, "ff7fffffffffffff"),
        (2**55, "ff8080000000000000"),
        (2**62 - 1, "ffbfffffffffffffff"),
        (2**62, "ffc04000000000000000"),
        (2**63 - 1, "ffc07fffffffffffffff"),
        (-(2**63), "003f8000000000000000"),
    ],
)
def test_number_takes_the_bytes_that_tensorflow_writes(number: int, written: str) -> None:
    key = NAME + b"\x01\x01" + bytes.fromhex(written) + b"\x81"
    assert slice_key("t", ((number, 1),)) == key
    assert slice_of(key, "x.index") == ("t", ((number, 1),))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("", b""),
        ("emb/ü", "emb/ü".encode()),
        ("a\0b", b"a\x00\xffb"),
        ("\0", b"\x00\xff"),
        ("\udcffz", b"\xff\x00z"),
        ("\0\udcff", b"\x00\xff\xff\x00"),
    ],
)
def test_name_is_written_with_its_zeros_and_ones_escaped(name: str, written: bytes) -> None:
    begin = b"\x00" + written + b"\x00\x01"
    assert name_prefix(name) == begin
    assert slice_key(name, ()) == begin + b"\x00"
    assert slice_of(begin + b"\x00", "x.index") == (name, ())
    assert slice_of(begin + b"\x01\x01\x80\x7f", "x.index") == (name, ((0, -1),))


def test_tensor_of_the_highest_rank_has_a_key_and_one_beyond_has_none() -> None:
    extents: Extents = tuple((number, 300 - number) for number in range(254))
    key = slice_key("t", extents)
    assert key[: len(NAME) + 2] == NAME + b"\x01\xfe"
    assert slice_of(key, "x.index") == ("t", extents)
    for rank in (255, 256):
        beyond = slice_key("t", ((0, 1),) * rank)
        with pytest.raises(CorruptCheckpoint):
            slice_of(beyond, "x.index")
    assert beyond[len(NAME) :][:3] == b"\x02\x01\x00"


@pytest.mark.parametrize(
    "key",
    [
        *(slice_key("emb", ((300, 70), (0, -1)))[:length] for length in range(14)),
        NAME + b"\x01\x01" + bytes.fromhex("ffe0" + 9 * "00") + b"\x81",
        NAME + b"\x01\x01" + bytes.fromhex("001f" + 9 * "ff") + b"\x81",
        b"\x00t\x00\x02\x01\x01\x80\x81",
        slice_key("emb", ((0, -1),)) + b"\x80",
    ],
)
def test_key_that_is_cut_or_names_no_part_is_refused(key: bytes) -> None:
    """Eleven bytes of a number are more than any has, whichever its sign."""
    with pytest.raises(CorruptCheckpoint) as raised:
        slice_of(key, "x.index")
    assert raised.value.message == "x.index has a damaged slice key"
    assert raised.value.remedy == "Use another checkpoint, or copy this one again"


@pytest.mark.parametrize(
    ("spec", "shape", "extents"),
    [
        ("", (), ()),
        ("10 3 0,4:0,3", (10, 3), ((0, 4), (0, 3))),
        ("10 3 4,6:-", (10, 3), ((4, 6), (0, -1))),
        ("7 0,7", (7,), ((0, 7),)),
    ],
)
def test_spec_of_a_saver_names_the_shape_and_the_part(
    spec: str, shape: tuple[int, ...], extents: Extents
) -> None:
    assert extents_of_spec(spec) == (shape, extents)
    if spec and "-" not in spec:
        assert spec_of_extents(shape, extents) == spec
