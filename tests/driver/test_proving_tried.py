"""Is just that tried which the run would compute, but for what chance decides?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.driver import proving
from orchestrator.driver.proving import held_still, task_of
from orchestrator.driver.startup import make_plan, start_point
from orchestrator.store.objects.location import open_location
from orchestrator.training.engine.options import TrainingOptions
from tests.driver.seed_sources import write_seed
from tests.driver.test_proving import FED, PLAN, config, start_of


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


@pytest.mark.parametrize("scope", [None, "old", "old/"])
def test_graph_that_draws_is_tried_without_chance(tmp_path: Path, scope: str | None) -> None:
    asked = config(
        source=str(write_seed(tmp_path / "run", "dropout")),
        output=str(tmp_path / "out"),
        input="mine:batches",
        steps=4,
        import_scope=scope,
    )
    start = start_point(asked, open_location(asked.output), None)
    plan = make_plan(asked, start)
    still, left = held_still(asked, start, plan)
    assert left == ""
    assert plan.graph.random_nodes
    assert still.graph.random_nodes == still.graph.stateful_random == ()
    nodes = MetaGraphDef.FromString(still.graph.original_meta).graph_def.node
    ops = {node.name: node.op for node in nodes}
    drawing = [name.removeprefix("old/") for name in plan.graph.random_nodes]
    assert not any(ops.get(name, "").startswith("Random") for name in drawing)
    # What initialisers draw is drawn once for both
    assert any(op.startswith("Random") for op in ops.values())
    assert held_still(asked, start, PLAN) == (PLAN, "")


def test_graph_with_a_draw_that_cannot_be_held_still_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = replace(PLAN, graph=replace(FED, stateful_random=("draw",)))
    still = SimpleNamespace(left=("Multinomial", "Other"))
    monkeypatch.setattr(proving, "without_chance", lambda *_, **__: still)
    assert held_still(config(), start_of(), drawing) == (drawing, "Multinomial")
