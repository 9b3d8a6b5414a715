"""How does everything get onto a machine without a network? As a folder of wheels, some of them in
parts.

Rule: a wheel that came as ``NAME.whl.part-aa``, ``NAME.whl.part-ab``, … is joined beside the others
before pip looks; pip gets no index and an empty target, so that what the machine has for others
stays as it is. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import string
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
CHUNK_BYTES = 8 * 2**20
MARK = ".whl.part-"
INSTALLED = ".installed"
"""A file of the target, written last: what it says is installed wholly."""


def part_names(wheel: str) -> Iterator[str]:
    """``NAME.whl.part-aa``, ``…-ab`` and so on, as ``split`` names them."""
    for first, second in product(string.ascii_lowercase, repeat=2):
        yield f"{wheel}.part-{first}{second}"


def split(wheel: Path, part_bytes: int) -> list[Path]:
    """Replace a wheel by parts of at most that many bytes; one that is small enough stays as it is."""
    if wheel.stat().st_size <= part_bytes:
        return [wheel]
    made: list[Path] = []
    names = part_names(wheel.name)
    with wheel.open("rb") as source:
        while source.tell() < wheel.stat().st_size:
            made.append(wheel.with_name(next(names)))
            with made[-1].open("wb") as target:
                _copy(source, target, part_bytes)
    wheel.unlink()
    return made


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count and (read := source.read(min(count, CHUNK_BYTES))):
        target.write(read)
        count -= len(read)


def parted(names: Iterable[str]) -> dict[str, list[str]]:
    """Wheel to its parts in order.

    Raises:
        ValueError: a part in the middle or the first one is missing.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if MARK in name:
            found[name.partition(".part-")[0]].append(name)
    for wheel, parts in found.items():
        parts.sort()
        for wanted, part in zip(part_names(wheel), parts, strict=False):
            if wanted != part:
                raise ValueError(f"{wanted} is missing: copy all parts of {wheel} again")
    return dict(found)


def join(folder: Path, joined: Path) -> list[Path]:
    """Join the wheels that came in parts into ``joined``; a wheel of the right size that is there
    already isn't joined again.
    """
    joined.mkdir(parents=True, exist_ok=True)
    made = []
    for wheel, parts in sorted(parted(path.name for path in folder.iterdir()).items()):
        target = joined / wheel
        made.append(target)
        if target.exists() and target.stat().st_size == sum(
            (folder / part).stat().st_size for part in parts
        ):
            continue
        with target.open("wb") as whole:
            for part in parts:
                with (folder / part).open("rb") as source:
                    shutil.copyfileobj(source, whole, CHUNK_BYTES)
    return made


def install(folder: Path, scratch: Path, wanted: str, log: Path) -> Path:
    """Install ``wanted`` from a folder of wheels into ``scratch/target``, without a network; the
    target.

    Raises:
        RuntimeError: pip said no; its words are in the log.
    """
    target, joined = scratch / "target", scratch / "joined"
    done = target / INSTALLED
    if done.exists() and done.read_text() == wanted:
        return target
    shutil.rmtree(target, ignore_errors=True)
    join(folder, joined)
    words = [
        "--no-index",
        "--find-links",
        str(folder),
        "--find-links",
        str(joined),
        "--target",
        str(target),
        wanted,
    ]
    _pip(["install", "--disable-pip-version-check", *words], log)
    done.write_text(wanted)
    return target


def collect(
    folder: Path, *, extras: str, python: str | None, part_mb: int | None, log: Path
) -> list[Path]:
    """Fill a folder with the wheels of the project and of all that it needs with these extras;
    needs a network.

    Args:
        python: version of the machine that will use them, such as ``3.12``, where it isn't this
            one's.
        part_mb: split wheels that are larger than so many MiB.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _pip(["wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], log)
    project = max(folder.glob("tfresume-*.whl"), key=lambda path: path.stat().st_mtime)
    words = ["--constraint", str(ROOT / "constraints.txt"), f"{project}[{extras}]"]
    if python is None:
        _pip(["wheel", "--wheel-dir", str(folder), *words], log)  # builds what comes as source only
    else:
        _pip(
            [
                "download",
                "--dest",
                str(folder),
                "--only-binary=:all:",
                "--python-version",
                python,
                *words,
            ],
            log,
        )
    if part_mb is not None:
        for wheel in sorted(folder.glob("*.whl")):
            split(wheel, part_mb * 2**20)
    return sorted(folder.iterdir())


def _pip(words: list[str], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(
            [sys.executable, "-m", "pip", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(
            f"pip {words[0]} ended with {done.returncode}: {log.read_text(errors='replace')[-1500:]}"
        )


def environment(target: Path | None, before: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a part runs in: the checkout and the target on Python's path, the target's CUDA
    libraries on the loader's.
    """
    paths = [str(ROOT), *([str(target)] if target else []), before.get("PYTHONPATH", "")]
    libraries = [
        *(map(str, sorted(target.glob("nvidia/*/lib"))) if target else []),
        before.get("LD_LIBRARY_PATH", ""),
    ]
    changed = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TF_CPP_MIN_LOG_LEVEL": "1"}
    if any(libraries):
        changed["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    return {**before, **changed}
