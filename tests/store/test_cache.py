"""Which staged checkpoints are evicted for a newcomer, and when is there no room for it at all?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from orchestrator.errors import OutputError
from orchestrator.store.transfer import cache
from orchestrator.store.transfer.cache import (
    KEEP_S,
    RESERVE_BYTES,
    SEAL,
    discard,
    entries,
    locked,
    make_room,
)

NOW_S = 1_000_000.0
MUCH = 10 << 30


def filled(cache_dir: Path, key: str, size_bytes: int, used_s: float, sealed: bool = True) -> Path:
    entry = cache_dir / key
    entry.mkdir(parents=True)
    (entry / "file").write_bytes(b"x" * size_bytes)
    if sealed:
        (entry / SEAL).touch()
    os.utime(entry / SEAL if sealed else entry, (used_s, used_s))
    return entry


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that the disk says are free; what is evicted isn't added."""
    bytes_free = [MUCH]
    usage = type(shutil.disk_usage("."))
    monkeypatch.setattr(
        cache.shutil,  # type: ignore[attr-defined]
        "disk_usage",
        lambda path: usage(2 * MUCH, MUCH, bytes_free[0]),
    )
    return bytes_free


def left(cache_dir: Path) -> set[str]:
    return {entry.key for entry in entries(cache_dir)}


def test_cache_that_is_not_there_has_no_entries_and_is_made_with_room(tmp_path: Path) -> None:
    where = tmp_path / "a" / "b"
    assert entries(where) == []
    make_room(where, 1, None)
    assert where.is_dir()
    with locked(tmp_path / "c" / "d", "key") as mine:
        assert mine


def test_entries_are_told_by_their_use_and_what_is_none_is_passed_over(tmp_path: Path) -> None:
    """A file that another process takes away meanwhile looks like a link to nothing."""
    filled(tmp_path, "b", 10, NOW_S - 5)
    filled(tmp_path, "a", 20, NOW_S)
    filled(tmp_path, "rest of a try", 30, NOW_S - 9, sealed=False)
    (tmp_path / "a.lock").touch()
    (tmp_path / "vanishing").mkdir()
    (tmp_path / "vanishing" / "file").symlink_to(tmp_path / "nothing")
    assert [
        (entry.key, entry.path, entry.size_bytes, entry.used_s) for entry in entries(tmp_path)
    ] == [
        ("rest of a try", tmp_path / "rest of a try", 30, NOW_S - 9),
        ("b", tmp_path / "b", 10, NOW_S - 5),
        ("a", tmp_path / "a", 20, NOW_S),
    ]


@pytest.mark.parametrize(
    ("needed", "limit", "stay"),
    [
        (100, 700, {"a", "b", "c"}),
        (101, 700, {"b", "c"}),
        (200, 700, {"b", "c"}),
        (201, 700, {"c"}),
        (400, 700, {"c"}),
        (401, 700, set()),
        (9999, 700, set()),
    ],
)
def test_longest_unused_go_until_the_newcomer_fits(
    tmp_path: Path, free: list[int], needed: int, limit: int, stay: set[str]
) -> None:
    for key, size, ago_s in (("c", 300, 1.0), ("a", 100, 3.0), ("b", 200, 2.0)):
        filled(tmp_path, key, size, NOW_S - KEEP_S - ago_s)
    make_room(tmp_path, needed, limit, NOW_S)
    assert left(tmp_path) == stay


@pytest.mark.parametrize(("ago_s", "stay"), [(KEEP_S - 0.5, {"a"}), (KEEP_S, set())])
def test_entry_that_a_restore_may_be_reading_stays(
    tmp_path: Path, free: list[int], ago_s: float, stay: set[str]
) -> None:
    filled(tmp_path, "a", 100, NOW_S - ago_s)
    make_room(tmp_path, 100, 1, NOW_S)
    assert left(tmp_path) == stay


@pytest.mark.parametrize(("needed", "stay"), [(500, {"a", "b"}), (501, {"b"})])
def test_cache_takes_half_of_what_the_disk_could_give_it(
    tmp_path: Path, free: list[int], needed: int, stay: set[str]
) -> None:
    """A thousand bytes are there, so that with what is free the disk could give it twice as much as
    the two and what's needed.
    """
    filled(tmp_path, "a", 400, 0.0)
    filled(tmp_path, "b", 600, 1.0)
    free[0] = 2 * (RESERVE_BYTES + 1000)
    make_room(tmp_path, RESERVE_BYTES + needed, None, NOW_S)
    assert left(tmp_path) == stay


def test_disk_that_is_fuller_than_the_limit_allows_has_entries_evicted(
    tmp_path: Path, free: list[int]
) -> None:
    filled(tmp_path, "a", 100, 0.0)
    free[0] = RESERVE_BYTES + 50
    make_room(tmp_path, 50, MUCH, NOW_S)
    assert left(tmp_path) == {"a"}
    with pytest.raises(OutputError):
        make_room(tmp_path, 51, MUCH, NOW_S)
    assert left(tmp_path) == set()


def test_disk_without_room_is_told_with_what_is_needed_and_what_is_free(
    tmp_path: Path, free: list[int]
) -> None:
    free[0] = RESERVE_BYTES + 50
    make_room(tmp_path, 50, MUCH)
    with pytest.raises(
        OutputError, match=f"no space left to stage 51 bytes in {tmp_path}: "
    ) as told:
        make_room(tmp_path, 51, MUCH)
    assert told.value.remedy == "Free space there, or point TMPDIR at a larger disk"
    assert told.value.details == {"full": True, "needed_bytes": 51, "free_bytes": free[0]}


def test_what_was_just_used_is_kept_by_the_machines_clock(tmp_path: Path) -> None:
    entry = filled(tmp_path, "a", 100, NOW_S)
    os.utime(entry / SEAL)
    make_room(tmp_path, 1, 1)
    assert left(tmp_path) == {"a"}


def test_lock_is_one_of_its_entry_and_free_again_afterwards(tmp_path: Path) -> None:
    with (
        locked(tmp_path, "a") as first,
        locked(tmp_path, "a", wait=False) as second,
        locked(tmp_path, "b", wait=False) as other,
    ):
        assert (first, second, other) == (True, False, True)
    with locked(tmp_path, "a", wait=False) as again:
        assert again


def test_entry_is_discarded_whole_and_twice_is_as_well(tmp_path: Path) -> None:
    entry = filled(tmp_path, "a", 10, NOW_S)
    discard(entry)
    assert not entry.exists()
    discard(entry)
