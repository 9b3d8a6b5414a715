"""Which checkpoint does TensorFlow's ``checkpoint`` file name, also where a driver slept?

Rule: the newest committed one of the lineage. The file is the one object that is overwritten, and
no store does that on a condition: the lease is asked right before, and again where time has passed
since.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import LeaseLost
from orchestrator.store.checkpoints.pointer import write_pointer
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, scan
from orchestrator.store.objects.location import Location
from orchestrator.store.run.lease import Lease
from orchestrator.store.run.lineage import Lineage


def set_pointer(
    output: Location,
    lineage: Lineage | None = None,
    expected: str = "",
    lease: Lease | None = None,
) -> tuple[Checkpoint, ...]:
    """Sets TensorFlow's ``checkpoint`` file right: to the newest committed checkpoint of the
    lineage, whoever wrote it last.

    Args:
        expected: a checkpoint that is there; where the store doesn't list it yet the file is left
            alone, since it would be set back.
        lease: the driver's own; asked before the pointer.

    Returns:
        The committed checkpoints of the lineage, newest first.

    Raises:
        LeaseLost: another driver holds the run.
        OutputError, StorageUnavailable: the store's.
    """
    committed = tuple(item for item in scan(output, lineage) if item.committed and not item.fenced)
    labels = [item.label for item in committed]
    if labels and (not expected or expected in labels):
        # Here and no earlier: the pointer is the one object that is overwritten, so a driver that
        # slept for a lease's length would point TensorFlow at the older run; and who takes over
        # after this look lists what was listed before it, so that he goes on from there
        if lease is not None:
            lease.check()
        point(output, labels, lease)
    return committed


def point(output: Location, labels: Sequence[str], lease: Lease | None = None) -> None:
    """Writes the file.

    Args:
        labels: of the checkpoints, newest first.
        lease: the driver's own; asked just before.

    Raises:
        LeaseLost: another driver holds the run.
        OutputError, StorageUnavailable: the store's.
    """
    write_pointer(output, labels[0], list(reversed(labels)))
    if lease is None or lease.is_fresh:
        return
    # A driver that slept between its look at the lease and this has set the file back, and whoever
    # followed may be done and set it no more: what is newest now is what it names
    try:
        lease.check()
    except LeaseLost:
        set_pointer(output)
        raise
