"""Which files are left of a damaged checkpoint, and what does it say that it holds?

Rule: nothing is refused that can be read in part. A directory names its newest checkpoint, good or
not; a missing data file is a file that isn't there, and its tensors can't be read. The graph beside
it tells which types and shapes to expect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.errors import CorruptCheckpoint, SourceError
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor
from orchestrator.store.bundle.damaged import header_shards, index_order, read_damaged_index
from orchestrator.store.bundle.sstable import Table
from orchestrator.store.bundle.v1 import read_v1
from orchestrator.store.checkpoints.candidates import Candidate, group
from orchestrator.store.checkpoints.chains import no_source
from orchestrator.store.checkpoints.choice import choose
from orchestrator.store.checkpoints.pointer import followed, read_pointer
from orchestrator.store.objects.layout import split_bundle_file
from orchestrator.store.objects.location import FileInfo, Location, open_location

_COUNT = re.compile(r"-of-(\d{5})\Z")


@dataclass(frozen=True)
class Wreck:
    """What is left.

    Attributes:
        candidate: its files.
        index: the tensors whose place is known.
        files: as ``Values`` takes them; None for a file that isn't there.
        lost: keys that the index names and nothing vouches for.
        problems: what is wrong, apart from single tensors.
    """

    candidate: Candidate
    index: BundleIndex = field(repr=False)
    files: tuple[FileInfo | None, ...]
    lost: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


def find_wreck(url: str) -> Candidate:
    """The checkpoint that ``url`` names: a prefix, one of its files, or a directory (its newest).

    Raises:
        SourceError: there is none, or several models and no telling which is meant.
        StorageUnavailable: the store doesn't answer.
    """
    location = open_location(url)
    info = location.info()
    if info is not None and info.is_directory:
        return _newest(location)
    parts = split_bundle_file(location.name)
    prefix = parts[0] if parts else location.name
    found = group(location.parent, location.parent.list()).get(prefix)
    if found is not None and found.is_changes:
        raise no_source(found.location)
    if found is None or not found.is_checkpoint:
        raise SourceError(
            f"{location.shown}: there are no files of such a checkpoint",
            remedy="Give a checkpoint's prefix, one of its files or its directory",
        )
    return found


def _newest(directory: Location) -> Candidate:
    here = group(directory, directory.list())
    directory, found, pointed = followed(directory, here, read_pointer(directory))
    choice = choose(list(found.values()), pointed)
    if not choice.ordered:
        several = f"holds several models: {', '.join(choice.ambiguous)}"
        raise SourceError(
            f"{directory.shown} {several if choice.ambiguous else 'holds no checkpoint'}",
            remedy="Give the prefix of the checkpoint to salvage",
        )
    return choice.ordered[0]


def read_wreck(candidate: Candidate, expected: CheckpointKeys) -> Wreck:
    """What a damaged checkpoint says that it holds.

    Args:
        expected: what its graph expects of it; empty without a graph.

    Raises:
        SourceError: without its index (or, in V1, any shard) nobody knows what lies where.
        StorageUnavailable: the store doesn't answer.
    """
    if candidate.format == "V1":
        return _read_v1(candidate, expected)
    file = candidate.files.get(".index")
    if file is None:
        raise SourceError(
            f"{candidate.prefix}.index is missing, and only it tells what lies where in the data",
            remedy="Look for a copy of the index: TensorFlow wrote it beside the data",
        )
    data = file.location.read_bytes()
    counts = [int(match[1]) for name in candidate.files if (match := _COUNT.search(name))]
    told = header_shards(data, file.name)
    # Of an earlier save under this name in other shards, files may be left
    shards = told if told is not None and (told in counts or not counts) else (counts or [1])[0]
    read = read_damaged_index(data, shards, file.name)
    names = [f".data-{number:05d}-of-{shards:05d}" for number in range(shards)]
    files = {name: candidate.files.get(name) for name in names}
    missing = [f"{candidate.prefix}{name} is missing" for name, there in files.items() if not there]
    order = index_order(expected)
    vouched = {key: tensor for run in read.doubtful for key, tensor in run.vouched(order).items()}
    known = replace(read.index, entries={**vouched, **read.index.entries})
    index = _with_whole_of_parts(known, expected)
    named = {key for run in read.doubtful for key, _ in run.records}
    lost = frozenset(named - set(index.entries))
    return Wreck(candidate, index, (file, *files.values()), lost, (*read.problems, *missing))


def _with_whole_of_parts(index: BundleIndex, expected: CheckpointKeys) -> BundleIndex:
    """A partitioned tensor whose own record is lost is known from the graph and its parts."""
    entries = dict(index.entries)
    for part in index.slice_data:
        known = expected.get(part.key)
        if part.key in entries or known is None or known.shape is None:
            continue
        shape = tuple(size for size in known.shape if size is not None)
        if known.dtype == part.dtype and len(shape) == len(known.shape):
            entries[part.key] = BundleTensor(part.key, part.dtype, shape, slices=1)
    return BundleIndex("V2", index.num_shards, entries, index.slice_data)


def _read_v1(candidate: Candidate, expected: CheckpointKeys) -> Wreck:
    files: list[FileInfo] = []
    problems: list[str] = []
    entries: dict[str, BundleTensor] = {}
    for file in candidate.v1_files:
        try:
            table = Table(file.location.read_bytes, file.size_bytes, file.name)
        except CorruptCheckpoint as error:
            problems.append(error.message)
            continue
        files.append(file)
        try:
            found: Mapping[str, BundleTensor] = read_v1([(file.name, table)]).entries
        except CorruptCheckpoint as error:
            problems.append(error.message)
            found = {
                key: BundleTensor(key, known.dtype, tuple(size or 0 for size in known.shape))
                for key, known in expected.items()
                if known.shape is not None and None not in known.shape
            }
        for key, tensor in found.items():
            entries.setdefault(key, tensor)
    if not entries:
        raise SourceError(
            f"no shard of {candidate.location.shown} can be read: {'; '.join(problems)}",
            remedy="Look for another copy, or for an older checkpoint",
        )
    return Wreck(
        candidate, BundleIndex("V1", len(files), entries), tuple(files), problems=tuple(problems)
    )
