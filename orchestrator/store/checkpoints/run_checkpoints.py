"""Which checkpoints has this run saved, and which of them count?

Rule: a checkpoint exists when its manifest does (``commits``), and counts when the lineage has it.
All of that is told by names and sizes: listing reads no manifest, so that a run with thousands of
checkpoints is listed in seconds.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.checkpoints.candidates import Candidate, group
from orchestrator.store.objects.layout import (
    CHANGED_SUFFIX,
    MANIFEST_SUFFIX,
    GenerationId,
    position_in,
    read_generation_id,
    split_step,
)
from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.store.run.lineage import Lineage, read_lineage
from orchestrator.vocabulary import Step

if TYPE_CHECKING:
    from orchestrator.store.checkpoints.verification import Checked
    from orchestrator.store.objects.manifest import Manifest

LISTERS = 16
"""Directories listed at a time: a run of hundreds of generations is listed in some round trips,
within what clients keep open in connections.
"""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of a run, as its listing shows it; nothing of it has been read.

    Attributes:
        candidate: its files.
        fenced: why it isn't in the lineage; empty where it is.
    """

    output: Location
    generation_id: GenerationId
    step: Step
    candidate: Candidate = field(repr=False)
    fenced: str = ""

    @property
    def name(self) -> str:
        """NAME, without the step."""
        return self.candidate.name

    @property
    def label(self) -> str:
        """``a0001-g0001/NAME-11000``: its path below the output, and how people and manifests call
        it.
        """
        return f"{self.generation_id.directory}/{self.candidate.prefix}"

    @property
    def prefix(self) -> Location:
        """Where savers find it."""
        return self.candidate.location

    @property
    def manifest_file(self) -> FileInfo | None:
        """Its commit marker."""
        return self.candidate.files.get(MANIFEST_SUFFIX)

    @property
    def is_changes(self) -> bool:
        """Whether it holds changed rows only, and is no checkpoint by itself."""
        return self.candidate.is_changes

    @property
    def committed(self) -> bool:
        """Whether it exists, by the rule."""
        return self.manifest_file is not None

    @property
    def size_bytes(self) -> int:
        """Of the files that TensorFlow reads, which its manifest lists; the manifest's own few
        bytes don't count, here or anywhere.
        """
        files = self.candidate.files.items()
        return sum(file.size_bytes for suffix, file in files if suffix != MANIFEST_SUFFIX)

    def manifest(self) -> Manifest:
        """Its manifest. Raises CorruptCheckpoint (damaged, or there is none), StorageUnavailable."""
        file = self.manifest_file
        if file is None:
            raise CorruptCheckpoint(
                f"checkpoint {self.prefix.shown} was never committed: it has no manifest",
                remedy="Use another",
            )
        # Not at the top, as in ``check``: what validates manifests takes its time to be built
        from orchestrator.store.objects.manifest import read_manifest_bytes

        manifest = read_manifest_bytes(file.location.read_bytes(), file.location.shown)
        if manifest.generation_id != self.generation_id:
            raise CorruptCheckpoint(
                f"{file.location.shown} belongs to {manifest.directory}: it was copied",
                remedy="Use the checkpoint where it was saved",
            )
        return manifest

    def check(self, *, deep: bool = False) -> Checked:
        """Its contents, if it's good. Raises CorruptCheckpoint, StorageUnavailable."""
        # Not at the top: `status` and `runs` list and check nothing, and what reads bundles takes
        # as long to import as all the rest of them
        from orchestrator.store.checkpoints.verification import check

        return check(self.candidate, self.manifest(), deep=deep)


def scan(output: Location, lineage: Lineage | None = None) -> tuple[Checkpoint, ...]:
    """Every checkpoint of ours below the output, committed or not, fenced or not; newest first.

    One listing of the output, one per directory of ours, and the lineage.
    """
    return scan_all(output, lineage)[0]


def scan_all(
    output: Location, lineage: Lineage | None = None
) -> tuple[tuple[Checkpoint, ...], tuple[Checkpoint, ...]]:
    """The same, and the saves that hold changed rows only (``chains``), newest first."""
    lineage = read_lineage(output) if lineage is None else lineage
    ids = [
        generation_id
        for entry in output.list()
        if (generation_id := read_generation_id(entry.name)) is not None
    ]
    with ThreadPoolExecutor(LISTERS) as pool:
        found = [
            item
            for items in pool.map(
                lambda generation_id: _written_by(output, generation_id, lineage), ids
            )
            for item in items
        ]
    ordered = sorted(found, key=age, reverse=True)
    return (
        tuple(item for item in ordered if not item.is_changes),
        tuple(item for item in ordered if item.is_changes),
    )


def age(item: Checkpoint) -> tuple[GenerationId, int, int]:
    """Of checkpoints with one step in one generation, as a counter that stands still leaves them,
    the later one tells its position.
    """
    return item.generation_id, item.step, position_in(item.candidate.prefix)


def _written_by(
    output: Location, generation_id: GenerationId, lineage: Lineage
) -> list[Checkpoint]:
    directory = output.child(generation_id.directory)
    found = []
    for prefix, candidate in group(directory, directory.list()).items():
        step = split_step(prefix.removesuffix(CHANGED_SUFFIX))[1]
        if step is not None:
            found.append(
                Checkpoint(
                    output, generation_id, step, candidate, lineage.why_not(generation_id, step)
                )
            )
    return found


def list_checkpoints(output: Location) -> tuple[Checkpoint, ...]:
    """The committed checkpoints of the run's lineage, newest first. Reads no manifest. Raises
    OutputError, StorageUnavailable.
    """
    return tuple(item for item in scan(output) if item.committed and not item.fenced)


def list_saves(output: Location) -> tuple[Checkpoint, ...]:
    """The same and the saves of changed rows, newest first."""
    full, changes = scan_all(output)
    items = sorted((*full, *changes), key=age, reverse=True)
    return tuple(item for item in items if item.committed and not item.fenced)
