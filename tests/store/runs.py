"""What do the store's tests need to make a run's checkpoints?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint
from orchestrator.store.objects.layout import checkpoint_dir
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.lease import Lease
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import model, write_checkpoint

NAME = "model.ckpt"


def uploaded(
    output: Location, step: int, attempt: int = 1, generation: int = 1, **fields: Any
) -> Manifest:
    """Uploads a checkpoint's files; its manifest, not yet committed."""
    with tempfile.TemporaryDirectory() as scratch:
        files = write_checkpoint(Path(scratch), f"{NAME}-{step}", model(step))
        records = upload(files, output.child(checkpoint_dir(attempt, generation)))
    values = {"step_key": "global_step", "training_s": float(step), **fields}
    return Manifest(
        name=NAME, step=step, attempt=attempt, generation=generation, files=records, **values
    )


def saved(
    output: Location,
    step: int,
    attempt: int = 1,
    generation: int = 1,
    lease: Lease | None = None,
    **fields: Any,
) -> Checkpoint:
    """Uploads and commits a checkpoint."""
    return commit(output, uploaded(output, step, attempt, generation, **fields), lease=lease)


def source_of(where: Location) -> Any:
    """The checkpoint ``m-1`` in a directory, checked (``verification.Checked``)."""
    from orchestrator.store.checkpoints.candidates import group
    from orchestrator.store.checkpoints.verification import check

    return check(group(where, where.list())["m-1"])
