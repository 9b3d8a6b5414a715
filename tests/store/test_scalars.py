"""Is a counter of a checkpoint read from its own bytes, whatever the format and the shard?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.counters import whole_number
from orchestrator.store.bundle.scalars import read_counter
from orchestrator.store.bundle.slice_keys import slice_key
from orchestrator.store.bundle.stored_index import stored_index
from orchestrator.store.objects.location import FileInfo, open_location
from tests.fakes.bundles import serialize, table_bytes, write_bundle
from tests.fakes.v1 import shard_bytes, whole

VALUES: dict[str, Any] = {
    "a_count": np.int64(2**40),
    "b_vector": np.array([5]),
    "c_small": np.int32(-7),
    "d_float": np.float32(12.0),
    "e_half": np.float64(1.5),
    "f_byte": np.uint8(3),
    "g_name": [b"x"],
    "global_step": np.int64(41),
}
COUNTED = {"a_count": 2**40, "c_small": -7, "d_float": 12, "global_step": 41}


def listed(directory: Path, prefix: str) -> list[FileInfo]:
    """The files of a checkpoint, its index first where it has one."""
    files = [file for file in open_location(str(directory)).list() if file.name.startswith(prefix)]
    return sorted(files, key=lambda file: (not file.name.endswith(".index"), file.name))


def write_v1(directory: Path, shards: list[dict[str, Any]]) -> None:
    """The files of an old checkpoint, one for each set of scalars."""
    directory.mkdir()
    for number, values in enumerate(shards):
        parts = [whole(key, value) for key, value in values.items()]
        (directory / f"old-{number}").write_bytes(shard_bytes(parts))


@pytest.mark.parametrize("shards", [1, 3])
def test_counters_are_whole_scalars_and_nothing_else(tmp_path: Path, shards: int) -> None:
    write_bundle(tmp_path, "m", VALUES, shards)
    files = listed(tmp_path, "m.")
    index = stored_index(files)
    found = {key: read_counter(index, files, key) for key in (*VALUES, "gone")}
    assert {key: value for key, value in found.items() if value is not None} == COUNTED


def test_damaged_counter_is_refused_by_name(tmp_path: Path) -> None:
    _, data = write_bundle(tmp_path, "m", {"global_step": np.int64(41)})
    data.write_bytes(np.int64(42).tobytes())
    files = listed(tmp_path, "m.")
    with pytest.raises(CorruptCheckpoint) as refused:
        read_counter(stored_index(files), files, "global_step")
    assert refused.value.message == f"{data.name}: tensor 'global_step' fails its checksum"
    assert refused.value.remedy == "Use another checkpoint, or copy this one again"


def test_counters_of_the_old_format_are_found_in_their_shard(tmp_path: Path) -> None:
    write_v1(
        tmp_path / "d", [{"a": np.float32(2.5), "b": np.int64(8)}, {"global_step": np.int64(9)}]
    )
    files = listed(tmp_path / "d", "old")
    index = stored_index(files)
    assert (index.format, index.num_shards) == ("V1", 2)
    assert {key: tensor.shard for key, tensor in index.entries.items()} == {
        "a": 0,
        "b": 0,
        "global_step": 1,
    }
    assert [read_counter(index, files, key) for key in ("a", "b", "global_step", "gone")] == [
        *(None, 8, 9, None)
    ]
    damaged = [(b"", serialize("V1Entry")), (slice_key("global_step", ()), b"\xff")]
    (tmp_path / "d" / "old-1").write_bytes(table_bytes(damaged))
    with pytest.raises(CorruptCheckpoint, match=r"^old-1 holds a damaged V1Entry record"):
        read_counter(index, listed(tmp_path / "d", "old"), "global_step")
    (tmp_path / "d" / "old-1").write_bytes(b"short")
    with pytest.raises(CorruptCheckpoint, match=r"^old-1 has only 5 bytes"):
        stored_index(listed(tmp_path / "d", "old"))
    with pytest.raises(CorruptCheckpoint, match=r"^old-1 doesn't end in a table's footer"):
        read_counter(index, files, "global_step")


def test_index_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.index").write_bytes(b"short")
    with pytest.raises(CorruptCheckpoint, match=r"^m\.index has only 5 bytes"):
        stored_index(listed(tmp_path, "m."))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.int64(-(2**62) - 1), -(2**62) - 1),
        (np.int32(7), 7),
        (np.float32(16_777_216), 16_777_216),
        (np.float64(0), 0),
        (np.float64(0.5), None),
        (np.float32("nan"), None),
        (np.float64("inf"), None),
    ],
)
def test_number_counts_where_it_is_whole(value: np.generic, number: int | None) -> None:
    found = whole_number(value.tobytes(), value.dtype.name)
    assert found == number
    assert found is None or type(found) is int
