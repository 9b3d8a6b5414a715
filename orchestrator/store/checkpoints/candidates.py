"""Which checkpoints might a directory's listing hold?

Rule: files are grouped by the exact naming of TensorFlow's savers, never by prefix matching, so
that ``model.ckpt`` and ``model.ckpt-5`` are two. Grouping believes nothing: an incomplete group is
a candidate too, to be refused by name rather than passed over in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.objects.layout import (
    CHANGED_SUFFIX,
    MANIFEST_SUFFIX,
    POINTER,
    split_bundle_file,
    split_step,
)
from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.vocabulary import Step

_V1_SHARD = re.compile(r"(?P<prefix>.+)-(?P<shard>\d{5})-of-(?P<count>\d{5})", re.DOTALL)


@dataclass(frozen=True)
class Candidate:
    """Files that claim to be one checkpoint.

    Attributes:
        directory: where they lie.
        prefix: what they share, such as ``model.ckpt-500``.
        files: suffix to file: ``.index``, ``.meta``, ``.data-00000-of-00001``, ``.manifest.json``;
            in V1 also ``""`` or ``-00000-of-00002``.
    """

    directory: Location
    prefix: str
    files: Mapping[str, FileInfo] = field(repr=False)

    @property
    def name(self) -> str:
        """The prefix without its step."""
        return split_step(self.prefix)[0]

    @property
    def step_in_name(self) -> Step | None:
        """The step that the prefix ends in."""
        return split_step(self.prefix)[1]

    @property
    def location(self) -> Location:
        """The prefix as a place, as savers want it."""
        return self.directory.child(self.prefix)

    @property
    def format(self) -> Literal["V1", "V2"]:
        """V2 where there is anything of a bundle, else V1."""
        return "V2" if ".index" in self.files or self.data_files else "V1"

    @property
    def data_files(self) -> list[FileInfo]:
        """The data files of V2, in order."""
        return [self.files[suffix] for suffix in sorted(self.files) if suffix.startswith(".data-")]

    @property
    def v1_files(self) -> list[FileInfo]:
        """The shards of V1, in order."""
        return [
            self.files[suffix]
            for suffix in sorted(self.files)
            if suffix == "" or suffix.startswith("-")
        ]

    @property
    def meta(self) -> FileInfo | None:
        """Its own ``.meta``."""
        return self.files.get(".meta")

    @property
    def is_changes(self) -> bool:
        """Whether it's named as a save that holds changed rows only."""
        return self.prefix.endswith(CHANGED_SUFFIX)

    @property
    def is_checkpoint(self) -> bool:
        """Whether it claims to be one by itself: variables, not just a graph or changed rows."""
        return not self.is_changes and any(
            suffix not in (".meta", MANIFEST_SUFFIX) for suffix in self.files
        )


@dataclass(frozen=True)
class Refusal:
    """A checkpoint that was passed over.

    Attributes:
        checkpoint: its prefix, as people would give it.
        step: the step in its name.
        reason: what's wrong, naming the file.
    """

    checkpoint: str
    step: int | None
    reason: str


def group(directory: Location, entries: Iterable[FileInfo]) -> dict[str, Candidate]:
    """The candidates of a listing by their prefix.

    A file without a suffix is a V1 checkpoint only where a ``.meta`` of the same prefix stands
    beside it: any other file may be anything.
    """
    files: dict[str, dict[str, FileInfo]] = {}
    plain: list[FileInfo] = []
    for entry in entries:
        if entry.is_directory or entry.name == POINTER:
            continue
        parts = split_bundle_file(entry.name)
        if parts is None:
            plain.append(entry)
        else:
            files.setdefault(parts[0], {})[parts[1]] = entry
    for entry in plain:
        shard = _V1_SHARD.fullmatch(entry.name)
        if entry.name in files and ".index" not in files[entry.name]:
            files[entry.name][""] = entry
        elif shard is not None and shard["prefix"] in files:
            files[shard["prefix"]][f"-{shard['shard']}-of-{shard['count']}"] = entry
    return {prefix: Candidate(directory, prefix, group) for prefix, group in files.items()}


def corrupt(candidate: Candidate, what: str, file: str) -> CorruptCheckpoint:
    """The error of a candidate that is bad: what is wrong, with which file."""
    return CorruptCheckpoint(
        f"checkpoint {candidate.location.shown}: {what}",
        remedy="Use another checkpoint, or copy this one again",
        details={
            "checkpoint": candidate.location.shown,
            "file": file,
            "step": candidate.step_in_name,
        },
    )
