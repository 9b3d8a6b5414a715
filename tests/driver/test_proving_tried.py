"""Is just that tried which the run would compute, but for what chance decides?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver import proving
from orchestrator.driver.proving import held_still, task_of
from orchestrator.driver.startup import Plan, StartPoint
from orchestrator.training.engine.options import TrainingOptions
from tests.driver.seed_sources import seed_meta
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
