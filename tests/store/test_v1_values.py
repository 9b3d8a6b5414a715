"""Are the values of a V1 record those that TensorFlow means, in any form that it writes?"""

from __future__ import annotations

import struct

import numpy as np
import pytest
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.v1_values import Record, read_record
from tests.fakes.v1 import record, tensor_proto

AGAIN = "Use another checkpoint, or copy this one again"


def _read(data: bytes, dtype: str, elements: int) -> bytes:
    found = read_record(record("t", data), dtype, "m-5")
    return bytes(found.content(elements, "m-5", "t"))


def _raw(data: bytes) -> bytes:
    """A record of these values as they stand, which a parser would write anew."""
    inner = b"\x1a" + bytes([len(data)]) + data
    return b"\x12" + bytes([len(inner)]) + inner


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, -2, np.nan], np.float32),
        np.array([1e300, -0.0], np.float64),
        np.array([0, 127, 128, -1, -(2**31), 2**31 - 1], np.int32),
        np.array([0, -1, -(2**63), 2**63 - 1, 300], np.int64),
        np.array([0, 255, 128], np.uint8),
        np.array([-128, 127], np.int8),
        np.array([-300, 300], np.int16),
        np.array([65535, 1], np.uint16),
        np.array([2**32 - 1, 7], np.uint32),
        np.array([2**64 - 1, 7], np.uint64),
        np.array([True, False, True]),
        np.array([1.5, -65504, 6e-8], np.float16),
        np.array([1 + 2j, -3.5j], np.complex64),
        np.array([1e300 + 2j, 0], np.complex128),
        np.zeros((0, 3), np.float32),
        np.array([], np.int64),
    ],
    ids=lambda values: values.dtype.name,
)
def test_numbers_of_any_type_are_laid_out_little_endian(values: np.ndarray) -> None:
    assert _read(tensor_proto(values), values.dtype.name, values.size) == values.tobytes()


def test_texts_are_read_as_they_are() -> None:
    texts = [b"", b"a\0b", b"x" * 300]
    found = read_record(record("t", tensor_proto(texts)), "string", "m-5")
    assert (found.strings, found.pieces) == (texts, [])


@pytest.mark.parametrize(
    ("dtype", "data", "expected"),
    [
        # proto2 programs write each number as a field of its own
        ("int32", b"\x38\x05\x38\x80\x02", np.array([5, 256], np.int32)),
        ("int64", b"\x50" + 9 * b"\xff" + b"\x7f", np.array([-1], np.int64)),  # of 70 bits
        ("int64", b"\x52\x0a" + 9 * b"\xff" + b"\x7f", np.array([-1], np.int64)),
        ("float32", b"\x2d" + struct.pack("<f", 1.5), np.array([1.5], np.float32)),
        ("float64", b"\x31" + struct.pack("<d", -2.5), np.array([-2.5], np.float64)),
        # what is packed into several fields, or into one of none, follows each other
        ("int32", b"\x3a\x00\x3a\x01\x05", np.array([5], np.int32)),
        ("int64", b"\x52\x01\x07\x52\x02\xac\x02", np.array([7, 300], np.int64)),
        ("bfloat16", b"\x6a\x03\x80\x7f\x01", np.array([0x3F80, 1], np.uint16)),
    ],
)
def test_numbers_are_read_in_every_form_of_the_wire(
    dtype: str, data: bytes, expected: np.ndarray
) -> None:
    found = read_record(_raw(data), dtype, "m-5")
    assert bytes(found.content(expected.size, "m-5", "t")) == expected.tobytes()


def test_bytes_of_the_content_are_the_values_and_other_fields_are_passed_over() -> None:
    values = np.array([1, 2, 3], np.float32)
    tensor = TensorProto(dtype=1, version_number=5, tensor_content=values.tobytes())
    tensor.tensor_shape.dim.add(size=3)
    assert _read(tensor.SerializeToString(), "float32", 3) == values.tobytes()


@pytest.mark.parametrize(
    ("given", "elements", "expected"),
    [([7, 8, 9], 5, [7, 8, 9, 9, 9]), ([], 3, [0, 0, 0]), ([4], 1, [4]), ([], 0, [])],
)
def test_last_value_stands_for_those_that_are_left_out(
    given: list[int], elements: int, expected: list[int]
) -> None:
    content = _read(tensor_proto(np.array(given, np.int32)), "int32", elements)
    assert np.frombuffer(content, np.int32).tolist() == expected


@pytest.mark.parametrize(
    ("found", "elements", "said"),
    [
        (Record("float32", [b"12345678"]), 1, "8 bytes of values where 4 are due"),
        (Record("float32", [b"1234", b"567"]), 9, "7 bytes of values where 36 are due"),
    ],
)
def test_values_that_are_no_such_numbers_are_refused(
    found: Record, elements: int, said: str
) -> None:
    with pytest.raises(CorruptCheckpoint) as raised:
        found.content(elements, "m-5", "t")
    assert (raised.value.message, raised.value.remedy) == (f"m-5: 't' has {said}", AGAIN)


def test_type_without_a_fixed_width_has_no_numbers() -> None:
    with pytest.raises(CorruptCheckpoint) as raised:
        Record("string").content(1, "m-5", "t")
    assert raised.value.message == "m-5: 't' has string where plain numbers are due"
    assert raised.value.remedy == AGAIN


@pytest.mark.parametrize(
    ("dtype", "data", "said"),
    [
        ("int32", b"\x3a\x02\x05\x80", "a number beyond its record"),
        ("int32", b"\x3a\x01\x80", "a number beyond its record"),
        ("int32", b"\x3a\x0b" + b"\x80" * 10 + b"\x01", "a number of more than 64 bits"),
        ("string", b"\x3a\x01\x05", "numbers of the type string"),
        ("float32", b"\x28\x05", "a number where bytes are due"),
        ("int32", b"\x3d\x05\x00\x00\x00", "bytes where a number is due"),
        ("int32", b"\x3a\x05\x01", "a field beyond its message"),
        ("int32", b"\x3d\x05\x00\x00", "a field beyond its message"),
        ("int32", b"\x39" + b"\x00" * 7, "a field beyond its message"),
        ("int32", b"\x3b\x05", "a field of the kind 3"),
        ("int32", b"\x3a", "index out of"),
    ],
)
def test_record_that_is_damaged_is_refused_with_the_damage(
    dtype: str, data: bytes, said: str
) -> None:
    with pytest.raises(CorruptCheckpoint) as raised:
        read_record(_raw(data), dtype, "m-5")
    assert raised.value.message.startswith(f"m-5 holds a damaged record ({said}")
    assert raised.value.remedy == AGAIN


def test_fields_that_are_no_values_are_passed_over() -> None:
    """A table of contents, numbers where messages are due, and fields of other widths."""
    values = b"\x3a\x01\x05"
    around = b"\x0a\x02ab" + b"\x10\x07" + b"\x1d" + b"\x00" * 4 + b"\x21" + b"\x00" * 8
    tensor = b"\x40\x05" + values  # a number under string_val
    inner = around.replace(b"\x10\x07", b"\x18\x07") + b"\x1a" + bytes([len(tensor)]) + tensor
    whole = around + b"\x12" + bytes([len(inner)]) + inner
    found = read_record(whole, "int32", "m-5")
    assert (found.content(1, "m-5", "t"), found.strings) == (b"\x05\0\0\0", [])
