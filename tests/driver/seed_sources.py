"""What do a driver's quick tests start from? Checkpoints, without TensorFlow, of the graphs that
``tests/graph/seeds`` keeps.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver.startup import StartPoint, start_point
from orchestrator.errors import AlreadyExists
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.source import resolve_source, source_fingerprint
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.run.run_record import RunRecord
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import write_checkpoint
from tests.graph.fuzzing import SEEDS

STEP = 3
"""What the graph's own counter says in each of them."""


@cache
def seed_meta(kind: str) -> bytes:
    """The graph of that name, serialized."""
    return gzip.decompress((SEEDS / f"{kind}.meta.gz").read_bytes())


def write_seed(
    directory: Path,
    kind: str = "metrics",
    number: int = STEP,
    without: Collection[str] = (),
    called: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """A checkpoint of a seed graph; its prefix.

    Args:
        number: the one that its name ends in.
        without: variables that it lacks.
        called: variable to another key under which it lies there.
    """
    meta = MetaGraphDef.FromString(seed_meta(kind))
    tensors = {
        called.get(node.name, node.name): _value(node)
        for node in meta.graph_def.node
        if node.op == "VariableV2" and node.name in _saved(meta) and node.name not in without
    }
    write_checkpoint(directory, f"m-{number}", tensors, meta=False)
    prefix = directory / f"m-{number}"
    prefix.with_name(f"{prefix.name}.meta").write_bytes(seed_meta(kind))
    return prefix


def _saved(meta: MetaGraphDef) -> frozenset[str]:
    (names,) = (node for node in meta.graph_def.node if node.name == "save/SaveV2/tensor_names")
    return frozenset(name.decode() for name in names.attr["value"].tensor.string_val)


def _value(node: Any) -> Any:
    if node.name == "global_step":
        return np.int64(STEP)
    return np.ones([dim.size for dim in node.attr["shape"].shape.dim], np.float32)


def record_of(source: Path, **values: Any) -> RunRecord:
    """The record of a run that began at this checkpoint."""
    named = resolve_source(str(source))
    known = {"source": named.url, "fingerprint": source_fingerprint(named), "name": named.name}
    return RunRecord.model_validate({**known, "started_step": STEP, **values})


def save(output: Location, source: Path, step: int, scratch: Path) -> str:
    """The checkpoint of ``source`` once more, as a run's first driver commits it at ``step`` in its
    second generation; its label.
    """
    with contextlib.suppress(AlreadyExists):
        record_takeover(output, 1, 2, STEP)
    files = []
    for file in sorted(source.parent.glob(f"{source.name}.*")):
        copy = scratch / file.name.replace(source.name, f"m-{step}")
        copy.write_bytes(file.read_bytes())
        files.append(copy)
    records = upload(files, output.child("a0001-g0002"))
    commit(output, Manifest(name="m", step=step, attempt=1, generation=2, files=records))
    return f"a0001-g0002/m-{step}"


def config_for(source: Path, output: Location, **settings: Any) -> RunConfig:
    """Four steps from there, or what the settings say."""
    known = {"source": str(source), "output": output.url, "input": "mine:batches", "steps": 4}
    return parse_config(known | settings)


def started(config: RunConfig, record: Any = None) -> StartPoint:
    """Where the run that is configured so begins."""
    return start_point(config, open_location(config.output), record)
