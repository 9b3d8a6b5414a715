"""A disk that is really full, and one that is really read-only: one clear error, and nothing half
left. Needs root, for the mounts.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import OutputError
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.checkpoints.retention import retain
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.local_files import is_temporary
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.transfer.staging import stage
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import model, write_checkpoint
from tests.store.runs import NAME, saved

Mount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Mount]]:
    """A file system of half a mebibyte, and a way to mount it with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(place)],
            check=True,
            capture_output=True,
        )

    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    try:
        mount("size=512k")
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("no file system can be mounted here")
    try:
        yield place, mount
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_save_onto_a_full_disk_fails_clearly_and_works_once_there_is_room(
    disk: tuple[Path, Mount], tmp_path: Path
) -> None:
    place, _ = disk
    output = open_location(str(place / "run"))
    record_takeover(output, 1, 1, 0)
    for step in (100, 200):
        saved(output, step)
    (place / "filler").write_bytes(b"x" * 300_000)
    files = write_checkpoint(tmp_path / "src", f"{NAME}-300", model(300, rows=20_000))
    with pytest.raises(OutputError, match="no space left") as caught:
        upload(files, output.child("a0001-g0001"))
    assert caught.value.details["full"]
    assert not [path for path in (place / "run").rglob("*") if is_temporary(path.name)]
    newest = newest_good(output, deep=True).checkpoint
    assert newest is not None
    assert newest.step == 200
    (place / "filler").unlink()
    assert saved(output, 300).step == 300


def test_clean_up_on_a_full_disk_makes_room(disk: tuple[Path, Mount]) -> None:
    place, _ = disk
    output = open_location(str(place / "run"))
    record_takeover(output, 1, 1, 0)
    for step in (100, 200, 300):
        saved(output, step)
    free = os.statvfs(place)
    (place / "filler").write_bytes(b"x" * (free.f_bavail - 12) * free.f_frsize)
    retain(output, max_to_keep=1, keep_every_hours=10_000)
    assert [item.step for item in list_checkpoints(output)] == [300]


def test_staging_where_there_is_no_room_says_how_much_is_needed(
    disk: tuple[Path, Mount], tmp_path: Path
) -> None:
    place, _ = disk
    write_checkpoint(tmp_path / "src", "m-5", model(5, rows=50_000))
    with pytest.raises(OutputError, match="no space left to stage") as caught:
        stage(resolve_source(str(tmp_path / "src")).files, place / "cache")
    assert caught.value.details["needed_bytes"] > 512 * 1024
    assert [path for path in (place / "cache").iterdir() if path.is_dir()] == []


def test_output_that_is_mounted_read_only_is_one_clear_error(disk: tuple[Path, Mount]) -> None:
    place, mount = disk
    output = open_location(str(place / "run"))
    record_takeover(output, 1, 1, 0)
    saved(output, 100)
    mount("remount,ro")
    with pytest.raises(OutputError, match="no permission to write") as caught:
        acquire(output, "me")
    assert "read-only" in caught.value.remedy
    assert newest_good(output).checkpoint is not None
