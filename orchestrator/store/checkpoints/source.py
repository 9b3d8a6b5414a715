"""What exactly does SOURCE name: which graph, which checkpoint, which files?

Rule: a ``.meta``, a prefix or any file of a checkpoint names that one checkpoint; a directory names
its newest good one, and each newer one that was passed over is named with the reason. An output of
ours is a directory like any other, read by its manifests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import google_crc32c

from orchestrator.config import RunConfig
from orchestrator.errors import CorruptCheckpoint, SourceError
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.store.bundle.bundle import BundleIndex
from orchestrator.store.checkpoints.at_step import at_step
from orchestrator.store.checkpoints.candidates import Candidate, Refusal, group
from orchestrator.store.checkpoints.chains import no_source
from orchestrator.store.checkpoints.foreign import (
    ForeignSource,
    newest_foreign,
    none_good,
    only_this,
)
from orchestrator.store.checkpoints.newest_good import NewestGood, newest_good
from orchestrator.store.checkpoints.pointer import followed, read_pointer
from orchestrator.store.checkpoints.run_checkpoints import list_saves
from orchestrator.store.checkpoints.unsupported import unsupported_directory, unsupported_file
from orchestrator.store.checkpoints.verification import Checked
from orchestrator.store.objects.layout import (
    CONTROL,
    POINTER,
    read_generation_id,
    split_bundle_file,
    split_step,
)
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.objects.manifest import Manifest


@dataclass(frozen=True)
class Source:
    """A graph and, usually, a checkpoint of it.

    Attributes:
        url: as given, without credentials.
        meta: the ``.meta`` file; ``meta_data`` its bytes, so that nobody fetches it twice.
        name: NAME for the checkpoints that follow: the prefix without its step.
        prefix: the checkpoint; None where only a graph was asked for and there is no checkpoint.
        step_in_name: the number that the prefix ends in.
        step: the step in the data, where its key is known by name.
        refused: newer checkpoints that were passed over.
        files: what has to be staged to restore it.
        index: what the checkpoint holds.
        manifest: its manifest, where it's one of ours.
        notes: what the user should know about the choice.
        links: where it holds changed rows only, the files of each save that it's made of, the full
            one first; ``index`` is of all of them together then. Empty for a checkpoint.
    """

    url: str
    meta: Location
    name: str
    prefix: Location | None
    step_in_name: int | None
    refused: tuple[Refusal, ...]
    format: Literal["V1", "V2"]
    files: tuple[FileInfo, ...]
    step: int | None = None
    index: BundleIndex | None = field(default=None, repr=False)
    manifest: Manifest | None = None
    notes: tuple[str, ...] = ()
    meta_data: bytes = field(default=b"", repr=False)
    index_crc32c: int = 0
    links: tuple[tuple[FileInfo, ...], ...] = ()

    def keys(self) -> CheckpointKeys | None:
        """What ``graph`` wants to know of the checkpoint; None without one."""
        return None if self.index is None else self.index.keys_for_graph()

    @property
    def place(self) -> Location:
        """The directory that holds its checkpoint, or its graph where it has none."""
        return (self.prefix or self.meta).parent

    @property
    def label(self) -> str:
        """How ``exclude`` calls its checkpoint: the prefix, below the output for one of ours."""
        if self.prefix is None:
            return ""
        return (
            f"{self.manifest.directory}/{self.manifest.prefix}"
            if self.manifest
            else self.prefix.name
        )


def source_fingerprint(source: Source) -> str:
    """Identifies graph and checkpoint: checksums of the ``.meta`` and of the index, which holds
    every tensor's own.
    """
    return f"{google_crc32c.value(source.meta_data):08x}-{source.index_crc32c:08x}"


def named_source(config: RunConfig) -> str:
    """The URL that a run's configuration means: its source, or the checkpoint of one step in it.

    Raises:
        SourceError, StorageUnavailable: as ``at_step``.
    """
    return config.source if config.from_step is None else at_step(config.source, config.from_step)


def resolve_source(
    url: str,
    *,
    need_checkpoint: bool = True,
    exclude: Mapping[str, str] | None = None,
    deep: bool = False,
) -> Source:
    """What SOURCE names.

    Args:
        url: a ``.meta``, a checkpoint's prefix or any of its files, or a directory; a path or any
            fsspec URL.
        need_checkpoint: False where a graph alone will do (``inspect``).
        exclude: ``Source.label`` to reason, for checkpoints that turned out bad later (while
            staging).
        deep: read every byte of each candidate.

    Raises:
        ConfigError: the URL's protocol is unknown.
        SourceError: nothing there, no permission, several models, or a graph alone.
        CorruptCheckpoint: the checkpoint, or each of them, is bad; ``details["refused"]`` lists
            why.
        StorageUnavailable: the store doesn't answer.
    """
    location = open_location(url)
    wanted = _prefix_of(location.name)
    if wanted is not None:
        found = _named(location.parent, wanted, location, need_checkpoint, deep)
    else:
        info = location.info()
        # what it says is its directory's business
        if info is not None and not info.is_directory and location.name == POINTER:
            return _directory(location.parent, need_checkpoint, exclude or {}, deep)
        if info is not None and info.is_directory:
            return _directory(location, need_checkpoint, exclude or {}, deep)
        found = _named(location.parent, location.name, location, need_checkpoint, deep)
    return _foreign_source(location, found)


def newest_source(
    output: Location, *, exclude: Mapping[str, str] | None = None, deep: bool = False
) -> tuple[Source | None, NewestGood]:
    """The newest good checkpoint of a run's output as a source, and what was passed over. None
    where there is none.

    Raises OutputError, SourceError, StorageUnavailable.
    """
    newest = newest_good(output, exclude=exclude, deep=deep)
    if newest.checkpoint is None or newest.checked is None:
        return None, newest
    checked = newest.checked
    meta = checked.candidate.meta
    if meta is None:
        raise CorruptCheckpoint(
            f"checkpoint {newest.checkpoint.prefix.shown} has no .meta",
            remedy="Give an older checkpoint as the source by its prefix",
        )
    found = ForeignSource(meta.location, meta.location.read_bytes(), checked, newest.refused)
    return _foreign_source(output, found), newest


def _of_changes(output: Location, newest: NewestGood) -> tuple[str, ...]:
    """That a run has gone further than its newest checkpoint, where changed rows tell."""
    last = list_saves(output)[0]
    if newest.checkpoint is None or not last.is_changes or last.step <= newest.checkpoint.step:
        return ()
    return (
        f"the run in {output.shown} has saved changed rows up to step {last.step}, which are no checkpoint by themselves: "
        f"`tfresume export {last.prefix.shown} --to checkpoint --all --output DIRECTORY` makes one of them",
    )


def _prefix_of(file_name: str) -> str | None:
    parts = split_bundle_file(file_name)
    return parts[0] if parts else None


def _named(
    directory: Location, prefix: str, asked: Location, need_checkpoint: bool, deep: bool
) -> ForeignSource:
    entries = directory.list()
    candidates = group(directory, entries)
    candidate = candidates.get(prefix)
    if candidate is not None and candidate.is_changes:
        raise no_source(candidate.location)
    if candidate is None:
        there = next(
            (entry for entry in entries if entry.name == asked.name and not entry.is_directory),
            None,
        )
        if there is not None:
            raise unsupported_file(there)
        raise SourceError(
            f"{asked.shown} doesn't exist" + _similar(list(candidates)),
            remedy="Give a .meta file, a checkpoint's prefix or a directory",
            details={"url": asked.shown, "missing": True},
        )
    return only_this(candidate, candidates, asked, need_checkpoint=need_checkpoint, deep=deep)


def _similar(prefixes: list[str]) -> str:
    if not prefixes:
        return "; there is no checkpoint in its directory either"
    shown = ", ".join(sorted(prefixes)[:5])
    return f"; its directory has {shown}" + (
        f" and {len(prefixes) - 5} more" if len(prefixes) > 5 else ""
    )


def _directory(
    location: Location, need_checkpoint: bool, exclude: Mapping[str, str], deep: bool
) -> Source:
    entries = location.list()
    candidates: Mapping[str, Candidate] = group(location, entries)
    ours = any(
        entry.is_directory and (entry.name == CONTROL or read_generation_id(entry.name))
        for entry in entries
    )
    if ours and not any(item.is_checkpoint for item in candidates.values()):
        source, newest = newest_source(location, exclude=exclude, deep=deep)
        if source is None:
            raise none_good(location, newest.refused, "holds a run that has saved nothing yet")
        return replace(source, notes=(*source.notes, *_of_changes(location, newest)))
    pointed = read_pointer(location) if any(entry.name == POINTER for entry in entries) else None
    location, candidates, pointed = followed(location, candidates, pointed)
    if not candidates and (error := unsupported_directory(location.shown, entries)) is not None:
        raise error
    found = newest_foreign(
        location, candidates, pointed, exclude=exclude, need_checkpoint=need_checkpoint, deep=deep
    )
    return _foreign_source(location, found)


def _foreign_source(asked: Location, found: ForeignSource) -> Source:
    checked: Checked | None = found.checked
    if checked is None:
        name = found.meta.name.removesuffix(".meta")
        plain, step = split_step(name)
        return Source(
            asked.shown,
            found.meta,
            plain,
            None,
            step,
            found.refused,
            "V2",
            (),
            meta_data=found.meta_data,
        )
    candidate: Candidate = checked.candidate
    return Source(
        url=asked.shown,
        meta=found.meta,
        name=candidate.name,
        prefix=candidate.location,
        step_in_name=candidate.step_in_name,
        refused=found.refused,
        format=candidate.format,
        files=checked.files,
        step=checked.step,
        index=checked.index,
        manifest=checked.manifest,
        notes=found.notes,
        meta_data=found.meta_data,
        index_crc32c=checked.index_crc32c,
    )
