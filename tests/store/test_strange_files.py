"""What isn't a checkpoint is told as what it is, with what to do; nothing that stands in a directory makes us wait."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from launch.cli import run
from orchestrator.errors import SourceError
from orchestrator.store.location import open_location
from orchestrator.store.source import resolve_source


def test_pipe_in_place_of_a_source_is_refused_and_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "m-5.meta")
    assert run(["inspect", str(tmp_path / "m-5.meta")]) == 2
    assert "a named pipe, not a file" in capsys.readouterr().err


def test_pipe_in_place_of_an_index_is_refused(tmp_path: Path) -> None:
    for name in ("m-5.index", "m-5.data-00000-of-00001"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "m-5.meta").write_bytes(b"")
    with pytest.raises(SourceError, match="named pipe"):
        resolve_source(str(tmp_path))


def test_device_and_socket_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="a device"):
        open_location("/dev/zero").read_bytes()
    monkeypatch.chdir(tmp_path)  # a socket's path has 108 characters at most
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        with pytest.raises(SourceError, match="a socket"):
            open_location("s").read_bytes()
