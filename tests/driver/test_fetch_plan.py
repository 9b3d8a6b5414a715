"""Which tensors are fetched where none is named, and what --keep-best adds to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import parse_config
from orchestrator.decide.evaluating import Goal
from orchestrator.driver.following import Following
from orchestrator.driver.inference import fetch_plan
from orchestrator.store.checkpoints.source import Source, resolve_source
from tests.fakes.bundles import model, write_checkpoint
from tests.graph.fuzzing import seed_graphs


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A checkpoint whose graph has its loss in the collection of losses."""
    write_checkpoint(tmp_path, "m-1", model(1))
    meta = MetaGraphDef.FromString(seed_graphs()["mlp"])
    meta.collection_def["losses"].node_list.value.append("loss:0")
    return replace(resolve_source(str(tmp_path)), meta_data=meta.SerializeToString())


@pytest.mark.parametrize(
    ("fetches", "metric", "fetched"),
    [
        ((), "", ["loss:0"]),
        ((), "out/add", ["loss:0", "out/add:0"]),
        ((), "loss", ["loss:0"]),
        (("out/add",), "loss", ["out/add:0", "loss:0"]),
        (("out/add",), "out/add", ["out/add:0"]),
    ],
)
def test_metric_of_the_best_is_fetched_besides_what_was_asked_for_or_the_losses(
    source: Source, fetches: tuple[str, ...], metric: str, fetched: list[str]
) -> None:
    asked = Following(fetches, keep_best=Goal.parse(f"{metric}:min") if metric else None)
    config = parse_config({"source": source.url, "input": "m:f"})
    found = fetch_plan(source, config, asked.fetches, losses_first=True, besides=asked.besides)
    assert list(found.fetches) == fetched
