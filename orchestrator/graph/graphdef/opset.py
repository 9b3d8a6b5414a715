"""Which operations does the installed TensorFlow know, and with which inputs, outputs and
attributes?

Rule: answered without importing TensorFlow. The package ships the operations of the TensorFlow it
was released with (``opset.json.gz``, made by ``training.engine.opset_export``); where another
TensorFlow is installed, that one is asked once in a process of its own and the answer cached. The
graph's own ``stripped_op_list`` speaks only for operations that the installed TensorFlow lacks.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.op_def_pb2 import OpDef, OpList

DISTRIBUTIONS = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-intel",
    "tensorflow-rocm",
    "tf-nightly",
)
EXPORT_TIMEOUT_S = 120.0
"""Importing TensorFlow took 10 s at worst; a hanging import must not hang ``inspect``."""

REWRITTEN_BEFORE_PLACEMENT = frozenset({"AccumulateNV2"})
"""Operations without a kernel that TensorFlow's graph passes replace, so that they run all the
same.
"""


@dataclass(frozen=True)
class OpSet:
    """What one TensorFlow can execute.

    Attributes:
        tensorflow: its version.
        graph_def_version: the version that it writes; a graph whose ``min_consumer`` is higher
            isn't imported.
        min_producer: graphs whose ``producer`` is lower aren't imported.
        ops: operation type to its OpDef, without documentation.
        gpu_only: operation types with a GPU kernel and no CPU kernel.
        without_kernel: registered operation types that neither CPU nor GPU can run.
        foreign: operation types that only the graph's own list describes; this TensorFlow lacks
            them.
        stale: why these may be another TensorFlow's operations than the installed one's; empty
            where they aren't.
    """

    tensorflow: str
    graph_def_version: int
    min_producer: int
    ops: Mapping[str, OpDef]
    gpu_only: frozenset[str] = frozenset()
    without_kernel: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    stale: str = ""

    def get(self, op_type: str) -> OpDef | None:
        """The definition of ``op_type``, None where nobody describes it."""
        return self.ops.get(op_type)

    def registered(self, op_type: str) -> bool:
        """Whether the installed TensorFlow itself knows ``op_type``."""
        return op_type in self.ops and op_type not in self.foreign


def op_def(op_type: str) -> OpDef | None:
    """The installed TensorFlow's definition of ``op_type``, None where it has no such operation."""
    return installed().get(op_type)


def merged(meta: MetaGraphDef) -> OpSet:
    """The installed operations, and those that only ``meta.meta_info_def.stripped_op_list``
    describes (``foreign``).
    """
    known = installed()
    own = {op.name: op for op in meta.meta_info_def.stripped_op_list.op if op.name not in known.ops}
    return OpSet(
        tensorflow=known.tensorflow,
        graph_def_version=known.graph_def_version,
        min_producer=known.min_producer,
        ops={**known.ops, **own},
        gpu_only=known.gpu_only,
        without_kernel=known.without_kernel,
        foreign=frozenset(own),
        stale=known.stale,
    )


@lru_cache(maxsize=1)
def installed() -> OpSet:
    """The operations of the installed TensorFlow; of the shipped one, and ``stale``, where the
    installed one can't be asked.
    """
    data = resources.files("orchestrator.graph.graphdef").joinpath("opset.json.gz").read_bytes()
    shipped = read_opset(data)
    version = installed_version()
    if version is None or version == shipped.tensorflow:
        return shipped
    cached = cache_path(version)
    failure = "" if cached.exists() else _export(cached)
    if not failure:
        return read_opset(cached.read_bytes())
    return read_opset(
        data,
        stale=f"these are TensorFlow {shipped.tensorflow}'s; the installed {version} couldn't be asked: {failure}",
    )


def installed_version() -> str | None:
    """The version of the installed TensorFlow by its distribution's metadata, None without one."""
    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def cache_path(version: str) -> Path:
    """Where the operations of another TensorFlow than the shipped one's are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "tfresume" / f"opset-{version}.json.gz"


def read_opset(data: bytes, *, stale: str = "") -> OpSet:
    """The operations in a file of ``training.engine.opset_export``."""
    content: dict[str, Any] = json.loads(gzip.decompress(data))
    op_list = OpList.FromString(base64.b64decode(content["ops"]))
    return OpSet(
        tensorflow=content["tensorflow"],
        graph_def_version=content["graph_def_version"],
        min_producer=content["min_producer"],
        ops={op.name: op for op in op_list.op},
        gpu_only=frozenset(content["gpu_only"]),
        without_kernel=frozenset(content["without_kernel"]) - REWRITTEN_BEFORE_PLACEMENT,
        stale=stale,
    )


def _export(path: Path) -> str:
    """Ask the installed TensorFlow in a process of its own; why that failed, or ``""``."""
    command = [sys.executable, "-m", "orchestrator.training.engine.opset_export", str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
