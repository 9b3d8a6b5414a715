"""A checkpoint on a local disk, as a worker writes it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.objects.location import open_location
from orchestrator.store.transfer.upload import upload
from orchestrator.training.state.bundle_writer import bundle_contents
from orchestrator.training.state.state import State


def write_bundle(state: State, graph: WorkerGraph, directory: Path, prefix: str) -> list[Path]:
    """The files, in the order of their names."""
    upload(bundle_contents(state, graph, prefix), open_location(str(directory)))
    return sorted(found for found in directory.iterdir() if found.name.startswith(f"{prefix}."))
