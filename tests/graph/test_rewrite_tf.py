"""Does a rewritten graph import, and does it train bit for bit as the original while nothing is
exchanged?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import GraphPlan, plan
from tests.graph.bare import train_original, train_rewritten
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]

KINDS: list[tuple[str, dict[str, Any]]] = [
    *(
        ("mlp", {"optimizer": name})
        for name in ("sgd", "momentum", "adam", "adagrad", "rmsprop", "ftrl")
    ),
    ("mlp", {"optimizer": "adam", "resource": True, "clip": True, "devices": True}),
    *(
        ("embedding", {"optimizer": name, "clip": clip})
        for name in ("sgd", "adam", "adagrad")
        for clip in (False, True)
    ),
    ("embedding", {"optimizer": "adam", "resource": True}),
    ("embedding", {"optimizer": "adagrad", "partitions": 3}),
    ("conv_bn", {"style": "dependencies"}),
    ("conv_bn", {"style": "group"}),
    ("ema", {}),
    ("lstm", {}),
    ("metrics", {}),
    ("queue", {}),
    ("tfdata", {}),
    ("tfdata", {"resource": True}),
]


def planned(prefix: Path, **options: Any) -> GraphPlan:
    """The plan for a run of a test checkpoint."""
    config = RunConfig(source=str(prefix), **options)
    return plan(read_meta(Path(f"{prefix}.meta").read_bytes(), name=prefix.name), config)


@pytest.mark.parametrize(
    ("kind", "options"),
    KINDS,
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
@pytest.mark.parametrize("workers", [1, 2])
def test_rewritten_graph_without_exchange_trains_as_the_original(
    tf1_checkpoint: CheckpointLibrary, kind: str, options: dict[str, Any], workers: int
) -> None:
    prefix = tf1_checkpoint(kind, **options)
    pulled = kind in ("queue", "tfdata")
    found = planned(prefix, workers=workers, input=None if pulled else "a:b")
    graph = found.worker_graph
    assert graph is not None, found.problems
    assert bool(graph.targets[0].dense) == (workers == 2)
    ops = [target.op for target in graph.targets]
    original = train_original(
        Path(f"{prefix}.meta").read_bytes(), str(prefix), ops, 4, feeds_for(kind)
    )
    rewritten = train_rewritten(graph, str(prefix), 4, feeds_for(kind))
    assert original.keys() == rewritten.keys()
    for name, value in original.items():
        np.testing.assert_array_equal(value, rewritten[name], err_msg=name)
