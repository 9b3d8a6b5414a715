"""Does a whole file appear on a local disk, and does a device stay what it is?"""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.objects import local_files
from orchestrator.store.objects.location import open_location


def test_pipe_takes_the_bytes_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.append(pipe.read_bytes()))
    reader.start()
    local_files.write_atomically(pipe, b"report")
    reader.join(60.0)
    assert taken == [b"report"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_a_name_among_the_devices_leads_to_is_written_and_the_name_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``/dev/stdout`` does, where standard output is a file."""
    devices, file = tmp_path / "dev", tmp_path / "file"
    devices.mkdir()
    file.write_bytes(b"what was there, longer")
    (devices / "stdout").symlink_to(file)
    monkeypatch.setattr(local_files, "DEVICES", devices)
    local_files.write_atomically(devices / "stdout", b"report")
    assert (devices / "stdout").is_symlink()
    assert file.read_bytes() == b"report"


def test_directory_of_a_file_at_the_root_is_not_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only-here").touch()
    monkeypatch.chdir(tmp_path)
    above = open_location("/nowhere").parent
    assert (above.url, above.path) == ("/", "/")
    assert "only-here" not in {entry.name for entry in above.list()}
    assert above.child("nowhere") == open_location("/nowhere")


@pytest.mark.parametrize(
    ("name", "temporary"),
    [
        (".tfresume-1.tmp", True),
        (".tfresume-1", False),
        ("tfresume-1.tmp", False),
        ("x.tmp", False),
    ],
)
def test_temporary_file_is_known_by_both_ends_of_its_name(name: str, temporary: bool) -> None:
    assert local_files.is_temporary(name) is temporary


@pytest.mark.parametrize(("kind", "word"), [("pipe", "a named pipe"), ("device", "a device")])
def test_what_is_no_file_is_refused_by_its_kind(tmp_path: Path, kind: str, word: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = Path(os.devnull) if kind == "device" else tmp_path / "pipe"
    with pytest.raises(OSError) as refused:  # noqa: PT011 - its number is looked at
        local_files.refuse_special(path)
    assert refused.value.errno == errno.EINVAL
    assert refused.value.strerror == (
        f"it's {word}, not a file: write what comes out of it into a file first"
    )
    local_files.refuse_special(tmp_path)


def test_file_in_the_place_of_a_directory_is_not_taken_for_another_writer(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    local_files.make_directory(tmp_path / "a" / "b")
    local_files.make_directory(tmp_path / "c" / "d")
    assert (tmp_path / "c" / "d").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as refused:
        local_files.make_directory(tmp_path / "file")
    assert refused.value.errno == errno.ENOTDIR
    assert refused.value.strerror == "a file stands where a directory is needed"
    assert refused.value.filename == str(tmp_path / "file")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the disk, in its order."""
    told: list[str] = []

    def fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        kind = "directory" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes"
        told.append(f"flush {kind}")

    real = {name: getattr(os, name) for name in ("replace", "link")}

    def named(name: str) -> Any:
        def call(source: Path, target: Path) -> None:
            assert local_files.is_temporary(Path(source).name)
            assert Path(source).parent == Path(target).parent
            told.append(f"{name} {Path(target).name}")
            real[name](source, target)

        return call

    monkeypatch.setattr(local_files.os, "fsync", fsync)  # type: ignore[attr-defined]
    for name in real:
        monkeypatch.setattr(local_files.os, name, named(name))  # type: ignore[attr-defined]
    return told


def test_file_is_on_the_disk_before_it_has_its_name_and_its_name_after_that(
    tmp_path: Path, done: list[str]
) -> None:
    path = tmp_path / "a" / "file"
    local_files.write_atomically(path, b"one")
    local_files.write_atomically(path, b"three")
    assert done[:3] == ["flush 3 bytes", "replace file", "flush directory"]
    assert done[3:] == ["flush 5 bytes", "replace file", "flush directory"]
    assert path.read_bytes() == b"three"
    done.clear()
    local_files.create_exclusively(path.with_name("other"), b"once")
    assert done == ["flush 4 bytes", "link other", "flush directory"]
    with pytest.raises(FileExistsError):
        local_files.create_exclusively(path.with_name("other"), b"twice")
    assert path.with_name("other").read_bytes() == b"once"
    assert sorted(os.listdir(path.parent)) == ["file", "other"], "nothing temporary stays"


@pytest.mark.parametrize(
    "number", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK]
)
def test_disk_without_links_creates_in_place_and_only_once(
    tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuses(*_: Any) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(local_files.os, "link", refuses)  # type: ignore[attr-defined]
    path = tmp_path / "file"
    local_files.create_exclusively(path, b"once")
    assert done == ["flush 4 bytes", "flush 4 bytes", "flush directory"]
    with pytest.raises(FileExistsError):
        local_files.create_exclusively(path, b"twice")
    assert path.read_bytes() == b"once"
    assert os.listdir(tmp_path) == ["file"]


def test_file_that_a_disk_refuses_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(local_files.os, "link", refuses)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="full"):
        local_files.create_exclusively(tmp_path / "file", b"once")
    monkeypatch.setattr(local_files.os, "replace", refuses)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="full"):
        local_files.write_atomically(tmp_path / "file", b"once")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "raises"),
    [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EBADF, False), (errno.EIO, True)],
)
def test_directory_that_cannot_be_flushed_is_an_error_only_where_the_disk_is_ill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raises: bool
) -> None:
    opened: list[int] = []

    def refuses(descriptor: int) -> None:
        opened.append(descriptor)
        raise OSError(number, "n")

    monkeypatch.setattr(local_files.os, "fsync", refuses)  # type: ignore[attr-defined]
    if raises:
        with pytest.raises(OSError, match="n"):
            local_files.flush_directory(tmp_path)
    else:
        local_files.flush_directory(tmp_path)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
    local_files.flush_directory(tmp_path / "gone")
    assert len(opened) == 1


def test_new_name_among_the_devices_becomes_a_file_as_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: list[str]
) -> None:
    monkeypatch.setattr(local_files, "DEVICES", tmp_path)
    local_files.write_atomically(tmp_path / "new", b"one")
    assert "replace new" in done
