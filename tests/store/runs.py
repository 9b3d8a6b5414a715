"""What do the store's tests need to make a run's checkpoints?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.store.bundle.data_writer import DataReport
from orchestrator.store.bundle.in_memory import BundleInMemory, TensorInMemory
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint
from orchestrator.store.objects.content import Content, MemoryContent
from orchestrator.store.objects.layout import checkpoint_dir
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import FileRecord, Manifest
from orchestrator.store.run.lease import Lease
from orchestrator.store.transfer.part_files import send_part
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import meta_bytes, model, write_checkpoint

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


def uploaded_parts(
    output: Location, step: int
) -> tuple[tuple[DataReport, ...], tuple[FileRecord, ...]]:
    """Uploads what three ranks write of a table and of what isn't divided; the index is lacking."""
    prefix, directory = f"{NAME}-{step}", output.child(checkpoint_dir(1, 1))
    values = {"global_step": np.int64(step), "emb": np.zeros((6, 4), np.float32)}
    reports: list[DataReport] = []
    files: list[Path | Content] = [MemoryContent(f"{prefix}.meta", [meta_bytes(values)])]
    for rank in range(3):
        rows, block = np.full((2, 4), rank, np.float32), ((2 * rank, 2), (0, 4))
        tensors = [TensorInMemory("emb", "float32", (2, 4), (rows.tobytes(),), None, (6, 4), block)]
        if rank == 0:
            counter = np.int64(step).tobytes()
            tensors.append(TensorInMemory("global_step", "int64", (), (counter,)))
        bundle = BundleInMemory(prefix, tensors, rank, 3)
        files.append(bundle.data())
        reports.append(bundle.report())
    return tuple(reports), send_part(files, directory)


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
