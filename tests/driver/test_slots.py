"""Does a run keep how many batches its steps have, and how their gradients are put together?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.driver.slots import as_recorded, scale_of
from orchestrator.store.run.run_record import RunRecord


def record(**values: Any) -> RunRecord:
    return RunRecord.model_validate(
        {"source": "s", "fingerprint": "f", "name": "m", "started_step": 3, **values}
    )


def config(**values: Any) -> RunConfig:
    return RunConfig.model_validate({"source": "s", "output": "o", **values})


@pytest.mark.parametrize(
    ("asked", "recorded", "scale"),
    [
        (None, None, "auto"),
        (None, "sum", "sum"),
        ("mean", "auto", "mean"),
        ("sum", None, "sum"),
        ("auto", "mean", "auto"),
    ],
)
def test_scale_is_as_asked_for_else_as_at_the_first_start(
    asked: str | None, recorded: str | None, scale: str
) -> None:
    known = None if recorded is None else record(gradient_scale=recorded)
    assert scale_of(config(gradient_scale=asked), known) == scale


def test_scale_of_a_run_that_began_before_there_was_a_choice_stays_the_mean() -> None:
    assert scale_of(config(), record()) == "mean"


@pytest.mark.parametrize(
    ("asked", "recorded", "planned"), [(None, None, None), (None, 4, 4), (2, 4, 2), (3, None, 3)]
)
def test_graph_is_planned_for_the_batches_that_a_step_has_since_the_first_start(
    asked: int | None, recorded: int | None, planned: int | None
) -> None:
    known = None if recorded is None else record(batches_per_step=recorded)
    assert as_recorded(config(batches_per_step=asked), known).batches_per_step == planned


@pytest.mark.parametrize(
    ("asked", "recorded", "planned"),
    [
        ([], [], []),
        ([], ["words"], ["words"]),
        ("none", ["words"], ["none"]),
        ("auto", ["words"], ["auto"]),
        (["users", "items"], [], ["users", "items"]),
    ],
)
def test_tables_are_divided_as_asked_for_else_as_at_the_first_start(
    asked: Any, recorded: list[str], planned: list[str]
) -> None:
    known = record(shard_tables=recorded)
    assert as_recorded(config(shard_tables=asked), known).shard_tables == planned
