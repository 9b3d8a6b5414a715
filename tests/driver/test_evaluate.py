"""How good is one checkpoint, and which one is meant? Without TensorFlow: what it gives is told."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import evaluate as evaluating
from orchestrator.driver.evaluate import Evaluated, evaluate, measured
from orchestrator.driver.inference import ANYWHERE, BatchValues, NodeWish
from orchestrator.errors import ConfigError, UserCodeError
from orchestrator.store.checkpoints.source import Source, resolve_source
from tests.fakes.bundles import model, write_checkpoint

PLACE = NodeWish(labels={"gpu": "yes"})


class Engine:
    """Stands for TensorFlow: what was asked of it, and the batches that it gives."""

    def __init__(self, *batches: tuple[int, float]) -> None:
        self.batches = batches
        self.plans: list[tuple[Any, ...]] = []
        self.fetches: list[tuple[Any, ...]] = []

    def fetch_plan(self, *words: Any, **how: Any) -> str:
        self.plans.append((*words, how))
        return "the plan"

    def fetched(self, *words: Any, **how: Any) -> list[BatchValues]:
        self.fetches.append((*words, how))
        return [
            BatchValues(number, rows, {"loss:0": np.array(loss)})
            for number, (rows, loss) in enumerate(self.batches)
        ]


def engine(monkeypatch: pytest.MonkeyPatch, *batches: tuple[int, float]) -> Engine:
    found = Engine(*batches)
    monkeypatch.setattr(evaluating, "fetch_plan", found.fetch_plan)
    monkeypatch.setattr(evaluating, "fetched", found.fetched)
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for step in (5, 7):
        write_checkpoint(tmp_path, f"m-{step}", model(step))
    return tmp_path


def config_of(directory: Path, **fields: object) -> RunConfig:
    return parse_config({"source": str(directory), **fields})


def test_mean_is_over_rows_and_what_it_is_of_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = engine(monkeypatch, (8, 1.0), (24, 2.0))
    clock = iter((100.0, 101.23456))
    monkeypatch.setattr(evaluating, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    source, config = resolve_source(str(directory)), config_of(directory)
    found = measured(source, config, ["loss"], besides=["auc"], batches=2, place=PLACE)
    assert found.as_dict() == {
        "checkpoint": f"{directory}/m-7",
        "step": 7,
        "metrics": {"loss:0": 1.75},
        "rows": 32,
        "batches": 2,
        "seconds": 1.235,
        "weighted_by": "rows",
    }
    assert told.plans == [(source, config, ["loss"], {"losses_first": True, "besides": ["auc"]})]
    asked = {"batches": 2, "means": True, "place": PLACE}
    assert told.fetches == [(source, config, "the plan", asked)]


def test_batches_whose_rows_are_not_known_count_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(monkeypatch, (0, 1.0), (24, 2.0))
    source = resolve_source(str(directory))
    found = measured(source, config_of(directory), [], batches=0, place=ANYWHERE)
    assert (found.rows, found.weighted_by, found.metrics) == (0, "batches", {"loss:0": 1.5})
    engine(monkeypatch, (8, math.nan), (8, 1.0))
    found = measured(source, config_of(directory), [], batches=0, place=ANYWHERE)
    assert math.isnan(found.metrics["loss:0"])


def test_input_without_a_batch_is_an_error_of_its_function(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = engine(monkeypatch)
    source = resolve_source(str(directory))
    with pytest.raises(UserCodeError) as refused:
        measured(source, config_of(directory), [], batches=0, place=ANYWHERE)
    assert refused.value.message == "the input gave no batch, so nothing was evaluated"
    assert refused.value.remedy == (
        "Look at the function that --input names: it's called with rank, world_size, step and position 0"
    )
    assert told.plans[0][-1] == {"losses_first": True, "besides": ()}


@pytest.mark.parametrize(
    ("step", "from_step", "taken"), [(None, None, 7), (5, None, 5), (None, 5, 5)]
)
def test_checkpoint_is_that_of_the_step_that_was_named_or_the_newest(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int | None,
    from_step: int | None,
    taken: int,
) -> None:
    asked: list[tuple[Any, ...]] = []

    def measuring(source: Source, *words: Any, **how: Any) -> Evaluated:
        asked.append((source.step, *words, how))
        return Evaluated(source.url, 0, {}, 0, 0, 0.0)

    monkeypatch.setattr(evaluating, "measured", measuring)
    config = config_of(directory, from_step=from_step)
    evaluate(config, step=step)
    evaluate(config, ["loss"], step=step, batches=3, place=PLACE)
    assert asked == [
        (taken, config, (), {"batches": 0, "place": ANYWHERE}),
        (taken, config, ["loss"], {"batches": 3, "place": PLACE}),
    ]


def test_two_steps_that_are_named_are_refused(directory: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        evaluate(config_of(directory, from_step=5), step=5)
    assert refused.value.message == "--step and --from-step name a checkpoint both"
    assert refused.value.remedy == "Leave one out"
