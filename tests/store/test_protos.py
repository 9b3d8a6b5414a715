"""Have the records of a checkpoint's files the fields that TensorFlow gives them?"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle import protos

FOUR = {"dim": [{"size": 4}]}
WIRE: list[tuple[str, dict[str, Any], str]] = [
    (
        "BundleHeader",
        {"num_shards": 3, "endianness": 1, "version": {"producer": 1}},
        "080310011a020801",
    ),
    ("BundleHeader", {"num_shards": 0}, ""),
    (
        "BundleEntry",
        {"dtype": 1, "shape": FOUR, "shard_id": 2, "offset": 5, "size": 16, "crc32c": 1},
        "0801120412020804180220052810" + "3501000000",
    ),
    (
        "BundleEntry",
        {"slices": [{"extent": [{"start": 1, "length": 2}, {}]}, {}]},
        "3a080a04080110020a00" + "3a00",
    ),
    ("Shape", {"dim": [{}, {"size": 1}], "unknown_rank": 1}, "120012020801" + "1801"),
    (
        "V1Entry",
        {
            "meta": {
                "tensor": [{"name": b"w", "shape": FOUR, "type": 1, "slice": [{"extent": [{}]}]}]
            }
        },
        "0a11" + "0a0f" + "0a0177" + "120412020804" + "1801" + "22020a00",
    ),
    (
        "V1Entry",
        {"data": {"name": b"w", "slice": {"extent": [{}]}, "data": {"dtype": 1}}},
        "120b" + "0a0177" + "12020a00" + "1a020801",
    ),
    (
        "V1Tensor",
        {
            "tensor_content": b"t",
            "float_val": [1.0],
            "double_val": [1.0],
            "int_val": [3],
            "int64_val": [4],
        },
        "220174" + "2a040000803f" + "3208000000000000f03f" + "3a0103" + "520104",
    ),
]


def started() -> ModuleType:
    """The module as a process has it that starts: it makes its messages then."""
    spec = importlib.util.spec_from_file_location(protos.__name__, protos.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_records_have_tensorflow_own_field_numbers_and_types() -> None:
    module = started()
    for kind, fields, wire in WIRE:
        assert module.serialized(kind, **fields).hex() == wire, kind
        message = module.parse(kind, bytes.fromhex(wire), "x")
        assert message == module._CLASSES[kind](**fields), kind


def test_fields_that_nobody_here_reads_are_passed_over() -> None:
    more = bytes.fromhex("0803" + "f20601ff")
    assert protos.parse("BundleHeader", more, "x").num_shards == 3


def test_record_that_is_none_is_refused_with_its_file() -> None:
    with pytest.raises(CorruptCheckpoint) as refused:
        protos.parse("BundleEntry", b"\xff", "m.index, key 'w'")
    assert refused.value.message.startswith(
        "m.index, key 'w' holds a damaged BundleEntry record (Error parsing message"
    )
    assert refused.value.remedy == "Use another checkpoint, or copy this one again"
