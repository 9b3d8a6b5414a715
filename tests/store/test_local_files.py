"""Does a whole file appear on a local disk, and does a device stay what it is?"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

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
