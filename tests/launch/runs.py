"""Outputs of runs, written with the store's own tools, for the commands that look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.journal import Journal
from orchestrator.store.run.lease import Lease, acquire
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.run.run_record import RunRecord, create_run_record
from tests.launch import journals


def recorded_run(
    output: Location,
    events: Sequence[journals.Event] | None = None,
    *,
    config: dict[str, Any] | None = None,
) -> Lease:
    """A run record, a lease and a journal below ``output``; the lease is held still."""
    lease = acquire(output, "bob@elsewhere pid 12")
    create_run_record(
        output,
        RunRecord(
            source="gs://b/run/model.ckpt-500",
            fingerprint="f",
            name="model.ckpt",
            started_step=500,
            config=config or {},
            created=0.0,
        ),
    )
    journal = Journal(output, lease.attempt)
    for event in journals.whole_run() if events is None else events:
        journal.append(event)
    journal.flush()
    return lease


def unreadable_checkpoint(output: Location, step: int, generation: int = 1) -> None:
    """A committed checkpoint whose manifest names a file that isn't there."""
    record_takeover(output, 1, generation, 0)
    manifest = Manifest.model_validate(
        {
            "name": "model.ckpt",
            "step": step,
            "attempt": 1,
            "generation": generation,
            "files": [{"name": f"model.ckpt-{step}.index", "size_bytes": 10, "crc32c": 1}],
        }
    )
    directory = output.child(manifest.directory)
    create_once(directory.child(manifest.file_name), manifest.to_bytes())


def unfinished_save(output: Location, step: int, generation: int = 1) -> None:
    """Files of a save that was never committed."""
    output.child(f"a0001-g{generation:04d}", f"model.ckpt-{step}.index").write_bytes(b"half")
