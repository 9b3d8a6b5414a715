"""Is this candidate a whole and consistent checkpoint?

Rule: cheap evidence first, each failure one error that names file, step, cause and remedy. Quick:
the manifest's sizes, the index in itself, every tensor's extent inside its data file and no byte
beyond, the step in the data against the manifest, and a sample of checksums (``sample``). Deep:
every tensor's checksum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import google_crc32c

from orchestrator.errors import CorruptCheckpoint, OrchestratorError, SourceError
from orchestrator.store.bundle.bundle import BundleIndex, read_index
from orchestrator.store.bundle.deep_verify import damaged_tensors
from orchestrator.store.bundle.sstable import Table
from orchestrator.store.bundle.v1 import read_v1, read_v1_scalar
from orchestrator.store.checkpoints.candidates import Candidate, corrupt
from orchestrator.store.checkpoints.sample import check_sample
from orchestrator.store.objects.location import FileInfo
from orchestrator.store.objects.manifest import Manifest

MAX_INDEX_BYTES = 1 << 30
"""An index holds some hundred bytes for each tensor; this is ten million tensors. A larger one is
damaged or something else, and isn't read into memory.
"""


@dataclass(frozen=True)
class Checked:
    """A candidate that passed.

    Attributes:
        index: what it holds.
        files: what has to be fetched to restore it, index first; with checksums where a manifest
            tells them.
        step: the global step in the data, None where its key isn't known.
        step_key: under which key that stands.
        index_crc32c: identifies the data, since the index holds every tensor's checksum.
    """

    candidate: Candidate
    index: BundleIndex = field(repr=False)
    files: tuple[FileInfo, ...]
    step: int | None
    step_key: str | None
    index_crc32c: int
    manifest: Manifest | None = None


def check(candidate: Candidate, manifest: Manifest | None = None, *, deep: bool = False) -> Checked:
    """What a candidate holds, if it's good.

    Args:
        manifest: its own, where it has one. It tells where the step stands; else the name
            ``global_step`` does.
        deep: read everything and check every tensor.

    Raises:
        CorruptCheckpoint: what's wrong, with the file's name.
        SourceError: a file can't be read. StorageUnavailable: the store doesn't answer.
    """
    if manifest is not None:
        _check_against_manifest(candidate, manifest)
    if candidate.format == "V1":
        checked = _check_v1(candidate)
    else:
        checked = _check_v2(candidate, manifest)
    if manifest is not None:
        _check_step(candidate, checked, manifest)
    if deep:
        problems = damaged_tensors(checked.index, checked.files)
        if problems:
            raise corrupt(
                candidate, f"{len(problems)} damaged tensors, first: {problems[0]}", problems[0]
            )
    return checked


def _check_against_manifest(candidate: Candidate, manifest: Manifest) -> None:
    if manifest.prefix != candidate.prefix:
        raise corrupt(
            candidate,
            f"its manifest speaks of {manifest.prefix}",
            f"{candidate.prefix}.manifest.json",
        )
    files = {file.name: file for file in candidate.files.values()}
    for record in manifest.files:
        found = files.get(record.name)
        if found is None:
            raise corrupt(
                candidate, f"{record.name} is missing, which its manifest names", record.name
            )
        if found.size_bytes != record.size_bytes:
            raise corrupt(
                candidate,
                f"{record.name} has {found.size_bytes} bytes, its manifest says {record.size_bytes}",
                record.name,
            )
    meta = candidate.meta
    expected = next(
        (
            record.crc32c
            for record in manifest.files
            if meta is not None and record.name == meta.name
        ),
        None,
    )
    if (
        meta is not None
        and expected is not None
        and google_crc32c.value(meta.location.read_bytes()) != expected
    ):
        raise corrupt(
            candidate, f"{meta.name} isn't what its manifest says: its checksum differs", meta.name
        )


def _check_step(candidate: Candidate, checked: Checked, manifest: Manifest) -> None:
    if manifest.step_key is not None and checked.step is None:
        raise corrupt(
            candidate,
            f"it lacks {manifest.step_key}, where its manifest says that the step stands",
            candidate.prefix,
        )
    if manifest.step_key is not None and checked.step != manifest.step:
        raise corrupt(
            candidate,
            f"its data is of step {checked.step}, its manifest of step {manifest.step}",
            candidate.prefix,
        )


def _check_v2(candidate: Candidate, manifest: Manifest | None) -> Checked:
    file = candidate.files.get(".index")
    if file is None:
        raise corrupt(
            candidate, f"{candidate.prefix}.index is missing", f"{candidate.prefix}.index"
        )
    if file.size_bytes > MAX_INDEX_BYTES:
        raise corrupt(
            candidate, f"{file.name} claims {file.size_bytes} bytes, which no index has", file.name
        )
    data = file.location.read_bytes()
    crcs = {record.name: record.crc32c for record in manifest.files} if manifest else {}
    if file.name in crcs and google_crc32c.value(data) != crcs[file.name]:
        raise corrupt(
            candidate, f"{file.name} isn't what its manifest says: its checksum differs", file.name
        )
    index = read_index(data, file.name)
    shards = _shards(candidate, index)
    key = (manifest.step_key if manifest else None) or index.step_key()
    step = check_sample(candidate, index, shards, key)
    files = tuple(replace(item, crc32c=crcs.get(item.name)) for item in (file, *shards))
    return Checked(
        candidate,
        index,
        files,
        step,
        key if step is not None else None,
        google_crc32c.value(data),
        manifest,
    )


def _shards(candidate: Candidate, index: BundleIndex) -> list[FileInfo]:
    shards = []
    for number in range(index.num_shards):
        suffix = f".data-{number:05d}-of-{index.num_shards:05d}"
        file, needed = candidate.files.get(suffix), index.shard_bytes.get(number, 0)
        if file is None:
            raise corrupt(
                candidate, f"{candidate.prefix}{suffix} is missing", candidate.prefix + suffix
            )
        if file.size_bytes < needed:
            raise corrupt(
                candidate, f"{file.name} is cut off: {file.size_bytes} bytes of {needed}", file.name
            )
        if file.size_bytes > needed:
            extra = file.size_bytes - needed
            raise corrupt(
                candidate,
                f"{file.name} has {extra} bytes more than its index accounts for: not of one save",
                file.name,
            )
        shards.append(file)
    return shards


def _check_v1(candidate: Candidate) -> Checked:
    files = candidate.v1_files
    _check_v1_shards(candidate, files)
    tables = [(file.name, _table(file)) for file in files]
    index = read_v1(tables)
    key, step = index.step_key(), None
    if key is not None:
        name, table = tables[index.entries[key].shard]
        step = read_v1_scalar(name, table, key)
    return Checked(
        candidate, index, tuple(files), step, key if step is not None else None, _v1_identity(files)
    )


def _check_v1_shards(candidate: Candidate, files: list[FileInfo]) -> None:
    counts = {suffix.rpartition("-of-")[2] for suffix in candidate.files if suffix.startswith("-")}
    if len(counts) > 1 or (counts and int(min(counts)) != len(files)):
        raise corrupt(
            candidate, f"{len(files)} of {int(max(counts))} shards are there", candidate.prefix
        )
    if not files:
        raise corrupt(candidate, "it has no data, only a .meta", candidate.prefix)


def _table(file: FileInfo) -> Table:
    if file.size_bytes and file.location.read_bytes(0, min(file.size_bytes, 24)).startswith(
        b"version https://git-lfs"
    ):
        raise SourceError(
            f"{file.name} is a Git LFS pointer, not the file itself",
            remedy="Fetch the files with `git lfs pull`",
        )
    return Table(
        lambda start, end: file.location.read_bytes(start, end), file.size_bytes, file.name
    )


def _v1_identity(files: Iterable[FileInfo]) -> int:
    crc = 0
    for file in files:
        for start in sorted({0, max(0, file.size_bytes - 65536)}):
            crc = google_crc32c.extend(
                crc, file.location.read_bytes(start, min(file.size_bytes, start + 65536))
            )
    return crc


def speaks_of_content(error: OrchestratorError) -> bool:
    """Whether an error says that a checkpoint is bad, and not that it couldn't be read: no
    permission is no reason to go back in time.
    """
    if isinstance(error, SourceError):
        return "action" not in error.details or bool(error.details.get("missing"))
    return isinstance(error, CorruptCheckpoint)
