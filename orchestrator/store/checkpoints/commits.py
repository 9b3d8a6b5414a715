"""Which checkpoints has this run committed, and how is the next one?

Rule: files, then the manifest (created once: that is the commit), then TensorFlow's pointer. Only
the holder of the lease commits, only for a generation in the lineage, only over files that are all
there in their recorded sizes. A crash before the manifest leaves the old checkpoint, a crash after
it the new one; a wrong pointer is set right by the next holder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.errors import (
    CorruptCheckpoint,
    LeaseLost,
    OrchestratorError,
    OutputError,
    StorageUnavailable,
)
from orchestrator.store.checkpoints.candidates import Candidate, Refusal, group
from orchestrator.store.checkpoints.pointer import write_pointer
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import (
    MANIFEST_SUFFIX,
    GenerationId,
    position_in,
    read_generation_id,
    split_step,
)
from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.store.objects.manifest import Manifest, read_manifest_bytes
from orchestrator.store.run.lease import Lease
from orchestrator.store.run.lineage import Lineage, read_lineage
from orchestrator.vocabulary import Step

if TYPE_CHECKING:
    from orchestrator.store.checkpoints.verification import Checked

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
    return tuple(sorted(found, key=_age, reverse=True))


def _age(item: Checkpoint) -> tuple[GenerationId, int, int]:
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
        step = split_step(prefix)[1]
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


@dataclass(frozen=True)
class NewestGood:
    """The newest checkpoint that passed, and why newer ones didn't.

    Attributes:
        checkpoint: None where there is none that is good.
        checked: its contents.
        refused: newer ones that were passed over, newest first, fenced and uncommitted ones
            included.
    """

    checkpoint: Checkpoint | None
    checked: Checked | None
    refused: tuple[Refusal, ...]


def newest_good(
    output: Location, *, exclude: Mapping[str, str] | None = None, deep: bool = False
) -> NewestGood:
    """The run's newest good checkpoint.

    Args:
        exclude: label to reason, for those that turned out bad later (while staging).
        deep: read every byte of each candidate.

    Raises:
        OutputError, StorageUnavailable: the store doesn't answer; never taken for a bad checkpoint.
    """
    from orchestrator.store.checkpoints.verification import speaks_of_content

    refused: list[Refusal] = []
    for item in scan(output):
        reason = (exclude or {}).get(item.label, "") or item.fenced
        if not reason and not item.committed:
            reason = "it was never committed: the save didn't finish"
        if not reason:
            try:
                return NewestGood(item, item.check(deep=deep), tuple(refused))
            except OrchestratorError as error:
                if not speaks_of_content(error):
                    raise
                reason = error.message
        refused.append(Refusal(item.label, item.step, reason))
    return NewestGood(None, None, tuple(refused))


def commit(output: Location, manifest: Manifest, *, lease: Lease | None = None) -> Checkpoint:
    """Makes an uploaded checkpoint exist.

    Args:
        manifest: names every file, in the directory of its attempt and generation.
        lease: the driver's own; asked before the commit and before the pointer.

    Returns:
        The checkpoint. Calling again with the same manifest is allowed and changes nothing.

    Raises:
        LeaseLost: another driver holds the run, or the lineage went on without this generation.
        OutputError: files are missing or of other sizes, or another save was committed under this
            name.
        StorageUnavailable: the store doesn't answer; whether the commit happened is found out by
            calling again.
    """
    # The lineage is read after the lease was asked: whoever takes over in between records that
    # before it commits, and what is committed here beyond that step is fenced by it
    if lease is not None:
        lease.check()
    lineage = read_lineage(output)
    _check_lineage(lineage, manifest)
    directory = output.child(manifest.directory)
    _check_files(directory, manifest, directory.list())
    create_once(directory.child(manifest.file_name), manifest.to_bytes())
    # Once more: the pointer is the one object that is overwritten, so a driver that slept here for
    # a lease's length would point TensorFlow at the older run
    if lease is not None:
        lease.check()
    committed = set_pointer(output, lineage)
    # From the listing, not from what was sent: a store that lists late is found out here
    for item in committed:
        if (
            item.generation_id == manifest.generation_id
            and item.candidate.prefix == manifest.prefix
        ):
            return item
    raise StorageUnavailable(
        f"{directory.child(manifest.file_name).shown} was written but isn't listed",
        remedy="The store forgets or delays: calling again finds out",
    )


def _check_lineage(lineage: Lineage, manifest: Manifest) -> None:
    label = f"{manifest.directory}/{manifest.prefix}"
    # The output couldn't be written to when this generation began: not lost, only not yet
    if lineage.head is None or manifest.generation_id > lineage.head.generation_id:
        raise StorageUnavailable(
            f"{label} can't be committed yet: that {manifest.directory} took over isn't recorded in the output",
            remedy="Record the take-over, then commit again",
        )
    fenced = lineage.why_not(manifest.generation_id, manifest.step)
    if fenced:
        raise LeaseLost(
            f"{label} can't be committed: {fenced}",
            remedy="Nothing to do: another driver goes on with this run",
        )


def _check_files(directory: Location, manifest: Manifest, entries: Iterable[FileInfo]) -> None:
    sizes = {entry.name: entry.size_bytes for entry in entries}
    wrong = [record for record in manifest.files if sizes.get(record.name) != record.size_bytes]
    if wrong:
        listed = "; ".join(
            f"{record.name} has {sizes.get(record.name, 'no')} of {record.size_bytes} bytes"
            for record in wrong
        )
        raise OutputError(
            f"{directory.shown} isn't complete, so it isn't committed: {listed}",
            remedy="The next save tries again",
        )


def set_pointer(output: Location, lineage: Lineage | None = None) -> tuple[Checkpoint, ...]:
    """Sets TensorFlow's ``checkpoint`` file right: to the newest committed checkpoint of the
    lineage, whoever wrote it last.

    Returns:
        The committed checkpoints of the lineage, newest first.
    """
    committed = tuple(item for item in scan(output, lineage) if item.committed and not item.fenced)
    if committed:
        write_pointer(output, committed[0].label, [item.label for item in reversed(committed)])
    return committed
