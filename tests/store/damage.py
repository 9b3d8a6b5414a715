"""What do tests do to directories of checkpoints?"""

from __future__ import annotations

from pathlib import Path

from orchestrator.store.checkpoints.source import resolve_source

STEPS = (100, 200, 300)
DATA = "m-300.data-00000-of-00001"


def resolved_step(directory: Path) -> int | None:
    return resolve_source(str(directory)).step


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)
