"""Is what can be tried tried once, and just as the run would compute it, but for what chance decides?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver import proving
from orchestrator.driver.proving import held_still, is_wanted, task_of, why_not
from orchestrator.driver.startup import Plan, StartPoint
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart, ShardedTables
from orchestrator.training.engine.options import TrainingOptions
from tests.driver.seed_sources import seed_meta
from tests.driver.test_proving import FED, PIPED, PLAN, config, record, start_of

DIVIDED = ShardedTables((ShardedPart("t", "t", ("t",), 4, (2,), "first", "count"),))


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (FED, ""),
        (replace(FED, group_refused="it draws"), "it trains on one worker only: it draws"),
        (
            replace(FED, tables=DIVIDED),
            "each worker holds some rows of its tables, and it's tried with all of them",
        ),
        (PIPED, "the graph's own pipeline makes the batches, so none can be joined"),
        (replace(FED, inputs=()), "the graph takes no batch"),
    ],
)
def test_graph_that_cannot_be_tried_says_why(graph: WorkerGraph, why: str) -> None:
    assert why_not(graph) == why


@pytest.mark.parametrize(
    ("settings", "slots", "recorded", "wanted"),
    [
        ({}, 3, None, True),
        ({}, 0, None, False),
        ({"prove": True}, 1, None, False),
        ({"prove": False}, 4, {"batches_per_step": 2}, False),
        ({"weight_by": "m:0"}, 2, {"batches_per_step": 2}, True),
        ({"weight_by": "m:0"}, 2, {"batches_per_step": 2, "weight_by": "m:0"}, False),
        ({}, 2, {"batches_per_step": 2, "gradient_scale": "sum", "weight_by": "m:0"}, False),
    ],
)
def test_proof_is_wanted_where_the_arithmetic_is_another(
    settings: dict[str, Any], slots: int, recorded: dict[str, Any] | None, wanted: bool
) -> None:
    known = None if recorded is None else record(**recorded)
    assert is_wanted(config(**settings), slots, known) is wanted


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({}, "batches_per_step", 2),
        ({"gradient_scale": "mean"}, "gradient_scale", "mean"),
        ({}, "gradient_scale", "auto"),
        ({"seed": 5}, "seed", 5),
        ({"deterministic": True}, "deterministic", True),
        ({}, "gpu", False),
        ({"workers": {"gpus": 1}}, "gpu", True),
        ({"workers": {"gpus": 1}}, "gpu_memory_fraction", None),
        ({"workers": {"gpus": 0.5}}, "gpu_memory_fraction", 0.5),
        ({}, "gpu_memory_fraction", None),
        ({"import_modules": ["mine"]}, "import_modules", ("mine",)),
        ({"load_op_library": ["ops.so"]}, "load_op_library", ("ops.so",)),
        ({"py_func": {"pyfunc_0": "mine:read"}}, "py_func", {"pyfunc_0": "mine:read"}),
    ],
    ids=str,
)
def test_setting_reaches_the_trial(settings: dict[str, Any], field: str, value: Any) -> None:
    options: TrainingOptions = task_of(config(**settings), start_of(), PLAN, 2)["options"]
    assert getattr(options, field) == value


def test_trial_has_the_graph_the_checkpoint_and_no_more_slots_than_tell_something() -> None:
    asked = config()
    task = task_of(asked, start_of(), PLAN, 20)
    assert task.pop("options") == TrainingOptions(batches_per_step=8)
    assert task == {"graph": FED, "config": asked, "files": ("a file",), "step": 3}


DRAWS = "dropout/random_uniform/RandomUniform"
EDITS: dict[str, Any] = {"freeze": ["out"], "reset_step": 40}


@pytest.mark.parametrize("scope", [None, "boX", "boX/"])
@pytest.mark.parametrize("label", [None, "a0001-g0001/m-5"])
def test_graph_that_draws_is_planned_once_more_without_chance_and_edited_no_second_time(
    monkeypatch: pytest.MonkeyPatch, scope: str | None, label: str | None
) -> None:
    seen: list[Any] = []

    def planned(asked: RunConfig, start: StartPoint) -> Plan:
        assert asked.meta is not None
        seen.extend((asked, start, MetaGraphDef.FromString(Path(asked.meta).read_bytes())))
        return PLAN

    monkeypatch.setattr(proving, "make_plan", planned)
    asked, start = config(import_scope=scope, **EDITS), replace(start_of(), own_label=label)
    drawn = DRAWS if scope is None else f"boX/{DRAWS}"
    graph = replace(FED, original_meta=seed_meta("dropout"), random_nodes=(drawn,))
    assert held_still(asked, start, replace(PLAN, graph=graph)) == (PLAN, "")
    calm, calm_start, still = seen
    assert calm_start == start_of()
    # Its own checkpoint has begun already where the first start was to begin
    assert (calm.freeze, calm.reset_step) == ([], 40 if label is None else None)
    assert not Path(calm.meta).exists()
    ops = {node.name: node.op for node in still.graph_def.node}
    assert ops.get(DRAWS) != "RandomUniform"
    # What initialisers draw is drawn once for both
    assert "random_normal/RandomStandardNormal" in ops
    assert any(op.startswith("Random") for op in ops.values())


def test_graph_that_draws_nothing_is_tried_as_it_is() -> None:
    assert held_still(config(), start_of(), PLAN) == (PLAN, "")


def test_graph_with_a_draw_that_cannot_be_held_still_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = replace(PLAN, graph=replace(FED, stateful_random=("draw",)))
    still = SimpleNamespace(left=("Multinomial", "Other"))
    monkeypatch.setattr(proving, "without_chance", lambda *_, **__: still)
    assert held_still(config(), start_of(), drawing) == (drawing, "Multinomial")
