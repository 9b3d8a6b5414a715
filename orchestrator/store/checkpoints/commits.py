"""How does an uploaded checkpoint begin to exist?

Rule: files, then the manifest (created once: that is the commit), then TensorFlow's pointer. Only
the holder of the lease commits, only for a generation in the lineage, only over files that are all
there in their recorded sizes. A crash before the manifest leaves the old checkpoint, a crash after
it the new one; a wrong pointer is set right by the next holder. It names full checkpoints only.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.errors import LeaseLost, OutputError, StorageUnavailable
from orchestrator.store.checkpoints.chains import why_no_link
from orchestrator.store.checkpoints.pointing import set_pointer
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, scan_all
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.lease import Lease
from orchestrator.store.run.lineage import Lineage, read_lineage


def commit(output: Location, manifest: Manifest, *, lease: Lease | None = None) -> Checkpoint:
    """Makes an uploaded checkpoint exist.

    Args:
        manifest: names every file, in the directory of its attempt and generation.
        lease: the driver's own; asked before the commit, and again between the listing and the
            pointer.

    Returns:
        The checkpoint. Calling again with the same manifest is allowed and changes nothing.

    Raises:
        LeaseLost: another driver holds the run, or the lineage went on without this generation.
        OutputError: files are missing or of other sizes, another save was committed under this
            name, or what it stands on isn't there any more.
        StorageUnavailable: the store doesn't answer; whether the commit happened is found out by
            calling again.
    """
    # The lineage is read after the lease was asked: whoever takes over in between records that
    # before it commits, and what is committed here beyond that step is fenced by it
    if lease is not None:
        lease.check()
    lineage = read_lineage(output)
    _check_lineage(lineage, manifest)
    if manifest.chain:
        _check_links(output, lineage, manifest)
    directory = output.child(manifest.directory)
    _check_files(directory, manifest, directory.list())
    create_once(directory.child(manifest.file_name), manifest.to_bytes())
    # From the listing, not from what was sent: a store that lists late is found out here
    for item in _listed(output, lineage, manifest, lease):
        if item.label == manifest.label:
            return item
    raise StorageUnavailable(
        f"{directory.child(manifest.file_name).shown} was written but isn't listed",
        remedy="The store forgets or delays: calling again finds out",
    )


def _listed(
    output: Location, lineage: Lineage, manifest: Manifest, lease: Lease | None
) -> Iterable[Checkpoint]:
    """What is there after a commit. A save of changed rows leaves the pointer, which names what
    plain TensorFlow can restore.
    """
    if not manifest.chain:
        return set_pointer(output, lineage, manifest.label, lease)
    _, changes = scan_all(output, lineage)
    # After the listing, as before a pointer
    if lease is not None:
        lease.check()
    return changes


def _check_links(output: Location, lineage: Lineage, manifest: Manifest) -> None:
    there = {item.label: item for items in scan_all(output, lineage) for item in items}
    for link in manifest.chain:
        item = there.get(link.label)
        if item is None or item.fenced or not item.committed:
            raise OutputError(
                f"{manifest.label} stands on {link.label}, which {why_no_link(item)}",
                remedy="The next save has to be a full one",
            )


def _check_lineage(lineage: Lineage, manifest: Manifest) -> None:
    label = manifest.label
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
    index = f"{manifest.prefix}.index"
    if index not in {record.name for record in manifest.files}:
        # Without one it would be a checkpoint of nothing, which everything else would pass
        raise OutputError(
            f"{manifest.label} lists no {index}, so it isn't committed",
            remedy="The next save tries again",
        )
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
