"""Staging: once per node, verified each time, bounded; and nothing half left by a death."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import OutputError
from orchestrator.store.checkpoints.source import Source, resolve_source
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.transfer import cache, staging
from orchestrator.store.transfer.cache import KEEP_S, SEAL, entries, locked, make_room
from orchestrator.store.transfer.staging import stage
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import model, write_checkpoint
from tests.servers.object_stores import HttpStore


@pytest.fixture
def source(tmp_path: Path) -> Source:
    write_checkpoint(tmp_path / "src", "m-5", model(5), shards=2)
    return resolve_source(str(tmp_path / "src"))


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were really fetched."""
    fetched: list[str] = []
    real = staging.download  # type: ignore[attr-defined]

    def counted(file: FileInfo, target: Path, **options: object) -> None:
        fetched.append(file.name)
        real(file, target, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(staging, "download", counted)
    return fetched


def test_stage_eight_workers_at_once_download_once(
    source: Source, tmp_path: Path, downloads: list[str]
) -> None:
    with ThreadPoolExecutor(8) as pool:
        prefixes = set(pool.map(lambda _: stage(source.files, tmp_path / "cache"), range(8)))
    assert len(prefixes) == 1
    assert sorted(downloads) == sorted(file.name for file in source.files)


def test_stage_processes_of_one_node_download_once(http_store: HttpStore, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "src", "m-5", model(5, rows=100_000))
    upload(sorted((tmp_path / "src").iterdir()), http_store.direct)
    code = (
        "import sys; from pathlib import Path\n"
        "from orchestrator.store.objects.location import open_location\n"
        "from orchestrator.store.checkpoints.candidates import group\n"
        "from orchestrator.store.checkpoints.verification import check\n"
        "from orchestrator.store.transfer.staging import stage\n"
        "where = open_location(sys.argv[1], **eval(sys.argv[2]))\n"
        "print(stage(check(group(where, where.list())['m-5']).files, Path(sys.argv[3])))\n"
    )
    options = {
        key: value
        for key, value in http_store.root.fs.storage_options.items()
        if key in ("endpoint_url", "token", "key", "secret")
    }
    command = [
        sys.executable,
        "-c",
        code,
        http_store.root.url,
        repr(options),
        str(tmp_path / "cache"),
    ]
    before = len(http_store.proxy.requests)
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert len(outputs) == 1
    data = [
        request
        for request in http_store.proxy.requests[before:]
        if ".data-00000" in request.target and request.method == "GET"
    ]
    whole = [request for request in data if _range_bytes(request.head) > 1_000_000]
    assert len(whole) == 1


def _range_bytes(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"range:"):
            first, _, last = line.partition(b"=")[2].partition(b"-")
            return int(last) - int(first) + 1
    return 0


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def aged(entry: Path) -> None:
    """As if it had been verified an hour ago."""
    seal = json.loads((entry / SEAL).read_text())
    (entry / SEAL).write_text(json.dumps({**seal, "verified_s": seal["verified_s"] - 3600}))


def test_stage_older_entry_is_verified_once_for_all(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = stage(source.files, tmp_path / "cache")
    verified: list[Path] = []
    real = staging._verified

    def counted(entry: Path, files: Sequence[FileInfo]) -> dict[str, int]:
        verified.append(entry)
        return real(entry, files)

    monkeypatch.setattr(staging, "_verified", counted)
    for _ in range(3):
        stage(source.files, tmp_path / "cache")
    assert verified == []  # fresh
    aged(prefix.parent)
    for _ in range(3):
        stage(source.files, tmp_path / "cache")
    assert verified == [prefix.parent]


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: _flip(entry / "m-5.data-00000-of-00002"),
        lambda entry: _flip(entry / "m-5.index"),
        lambda entry: (entry / "m-5.data-00001-of-00002").unlink(),
        lambda entry: (entry / "m-5.index").write_bytes(b""),
        lambda entry: (entry / SEAL).unlink(),
        lambda entry: (entry / SEAL).write_text("{"),
    ],
)
def test_stage_damaged_cache_entry_is_fetched_anew(
    source: Source, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    prefix = stage(source.files, tmp_path / "cache")
    good = {path.name: path.read_bytes() for path in prefix.parent.iterdir() if path.name != SEAL}
    aged(prefix.parent)
    damage(prefix.parent)
    assert stage(source.files, tmp_path / "cache") == prefix
    assert {
        path.name: path.read_bytes() for path in prefix.parent.iterdir() if path.name != SEAL
    } == good


def test_stage_file_replaced_in_the_store_is_fetched_anew(tmp_path: Path) -> None:
    store = open_location("memory://staging-replaced")
    for step in (5, 6):
        shutil.rmtree(tmp_path / "src", ignore_errors=True)
        write_checkpoint(tmp_path / "src", "m", model(step))
        upload(sorted((tmp_path / "src").iterdir()), store)
        found = resolve_source("memory://staging-replaced/m")
        assert found.step == step
        prefix = stage(found.files, tmp_path / "cache")
        assert Path(f"{prefix}.index").read_bytes() == (tmp_path / "src" / "m.index").read_bytes()


def test_stage_dying_while_it_downloads_leaves_nothing_taken_for_whole(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    real = staging.download  # type: ignore[attr-defined]

    def dies_at_second(file: FileInfo, target: Path, **options: object) -> None:
        if file.name.endswith(".index"):
            raise Died
        real(file, target, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(staging, "download", dies_at_second)
    monkeypatch.setattr(staging, "discard", lambda path: None)  # a real death cleans nothing up
    with pytest.raises(Died):
        stage(source.files, tmp_path / "cache")
    monkeypatch.undo()
    prefix = stage(source.files, tmp_path / "cache")
    assert {path.name for path in prefix.parent.iterdir()} == {
        file.name for file in source.files
    } | {SEAL}


def filled(cache_dir: Path, key: str, size_bytes: int, age_s: float) -> Path:
    entry = cache_dir / key
    entry.mkdir(parents=True)
    (entry / "file").write_bytes(b"x" * size_bytes)
    (entry / SEAL).write_text("")
    when = time.time() - age_s
    os.utime(entry / SEAL, (when, when))
    return entry


def test_make_room_evicts_the_longest_unused_first(tmp_path: Path) -> None:
    old, older, young = (
        filled(tmp_path, key, 1000, age_s)
        for key, age_s in (("a", KEEP_S + 50), ("b", KEEP_S + 99), ("c", 1.0))
    )
    make_room(tmp_path, 500, limit_bytes=2600)
    assert (old.exists(), older.exists(), young.exists()) == (True, False, True)
    make_room(tmp_path, 500, limit_bytes=1)
    assert (old.exists(), young.exists()) == (False, True)


def test_make_room_leaves_what_is_locked(tmp_path: Path) -> None:
    entry = filled(tmp_path, "a", 1000, KEEP_S + 50)
    with locked(tmp_path, "a"):
        make_room(tmp_path, 500, limit_bytes=10)
        assert entry.exists()
    make_room(tmp_path, 500, limit_bytes=10)
    assert not entry.exists()


def test_make_room_on_a_full_disk_says_how_much_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: type(usage)(10**9, 10**9 - 5, 5))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match="5 bytes are free"):
        make_room(tmp_path, 100, limit_bytes=None)


def test_stage_keeps_the_cache_within_its_limit(tmp_path: Path) -> None:
    for step in range(4):
        write_checkpoint(tmp_path / "src", f"m-{step}", model(step, rows=1000))
        prefix = stage(
            resolve_source(str(tmp_path / "src" / f"m-{step}")).files,
            tmp_path / "cache",
            limit_bytes=40_000,
        )
        os.utime(prefix.parent / SEAL, (time.time() - KEEP_S - 100 + step,) * 2)
    assert sum(entry.size_bytes for entry in entries(tmp_path / "cache")) <= 40_000
    assert prefix.parent.exists()


def test_stage_any_other_files_are_brought_together(store: Location, tmp_path: Path) -> None:
    store.child("vocab.txt").write_bytes(b"a\nb\n")
    info = store.child("vocab.txt").info()
    assert info is not None
    assert stage([info], tmp_path / "cache").read_bytes() == b"a\nb\n"
    store.child("vocab.txt").write_bytes(b"c\nd\n")
    info = store.child("vocab.txt").info()
    assert info is not None
    assert stage([replace(info)], tmp_path / "cache").read_bytes() == b"c\nd\n"
