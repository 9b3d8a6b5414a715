"""Does a run keep how many batches its steps have, and how their gradients are put together?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.decide.scaling import Sizes
from orchestrator.driver.slots import (
    Slots,
    as_recorded,
    fitting,
    scale_of,
    slots_of,
    surplus_note,
)
from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import WorkerGraph
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


GRAPH = WorkerGraph(b"", b"", (), (), ())
ALONE = replace(GRAPH, group_refused="it draws")
OLD = {"config": {"workers": {"count": 5}}}
"""The record of a version in which every worker computed one batch."""


@pytest.mark.parametrize(
    ("settings", "recorded", "found"),
    [
        ({}, None, Slots(1, 1, 1)),
        ({"workers": {"count": 3, "max": 4}}, None, Slots(3, 3, 3)),
        ({"workers": 3, "batches_per_step": 6}, None, Slots(6, 6, 6)),
        ({"workers": 3}, {"batches_per_step": 4}, Slots(4, 4, 4)),
        ({"workers": 3, "batches_per_step": 6}, {"batches_per_step": 4}, Slots(6, 4, 6)),
        ({"workers": 3}, OLD, Slots(5, 5, 5)),
        ({"workers": 3}, {"config": {"workers": {"count": 1}}}, Slots(1, 1, 1)),
        ({"workers": 3}, {"config": {"workers": {"count": 0}}}, Slots(3, 3, 3)),
        ({"workers": 3}, {"config": {"workers": {"count": "5"}}}, Slots(3, 3, 3)),
        ({"workers": 3}, {"config": {"workers": 5}}, Slots(3, 3, 3)),
        ({"workers": 3}, {}, Slots(3, 3, 3)),
        ({"workers": 3, "exchange": "nccl"}, None, Slots(None, 3, 3)),
        ({"workers": {"count": 3, "max": 8}, "exchange": "nccl"}, None, Slots(None, 3, 8)),
        ({"workers": 1, "exchange": "nccl", "batches_per_step": 2}, None, Slots(2, 2, 2)),
        ({"workers": 1, "exchange": "nccl", "weight_by": "mask:0"}, None, Slots(1, 1, 1)),
    ],
    ids=str,
)
def test_number_of_batches_is_settled_at_the_first_start_and_changed_by_the_flag_alone(
    settings: dict[str, Any], recorded: dict[str, Any] | None, found: Slots
) -> None:
    known = None if recorded is None else record(**recorded)
    assert slots_of(config(**settings), GRAPH, known) == found


@pytest.mark.parametrize(
    "settings", [{}, {"workers": 3}, {"batches_per_step": 1}, {"exchange": "nccl", "workers": 2}]
)
def test_graph_that_trains_alone_has_one_batch_in_a_step(settings: dict[str, Any]) -> None:
    assert slots_of(config(**settings), ALONE, None) == Slots(1, 1, 1)


@pytest.mark.parametrize(
    ("graph", "settings", "recorded", "said", "remedy"),
    [
        (
            ALONE,
            {"batches_per_step": 2},
            {},
            "a step of this graph has one batch: it draws",
            "Leave --batches-per-step out, or give 1",
        ),
        (
            GRAPH,
            {"exchange": "nccl", "workers": 2, "batches_per_step": 2},
            {},
            "--batches-per-step has no meaning with --exchange nccl",
            "Leave it out, or use --exchange host",
        ),
        (
            GRAPH,
            {"exchange": "nccl", "workers": 2, "weight_by": "mask:0"},
            {},
            "--weight-by has no meaning with --exchange nccl",
            "Leave it out, or use --exchange host",
        ),
        (
            GRAPH,
            {"exchange": "nccl", "workers": 2},
            {"weight_by": "mask:0"},
            "--weight-by has no meaning with --exchange nccl",
            "Leave it out, or use --exchange host",
        ),
    ],
    ids=str,
)
def test_batches_that_the_graph_or_the_exchange_has_no_room_for_are_refused(
    graph: WorkerGraph, settings: dict[str, Any], recorded: dict[str, Any], said: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        slots_of(config(**settings), graph, record(**recorded))
    assert refused.value.message.startswith(said)
    assert refused.value.remedy == remedy


@pytest.mark.parametrize(
    ("settings", "recorded", "found"),
    [
        ({}, {}, ("mean", None, 1)),
        ({}, None, ("auto", None, None)),
        ({}, {"gradient_scale": "sum", "table_copies": 2}, ("sum", None, 2)),
        ({"gradient_scale": "mean"}, {"gradient_scale": "sum"}, ("mean", None, 1)),
        ({}, {"weight_by": "mask:0"}, ("mean", "mask:0", 1)),
        ({"weight_by": "rows:0"}, {"weight_by": "mask:0"}, ("mean", "rows:0", 1)),
        ({"table_copies": 1}, {"table_copies": 2}, ("mean", None, 1)),
        ({"shard_tables": "none"}, {"table_copies": 2}, ("mean", None, None)),
    ],
    ids=str,
)
def test_arithmetic_and_copies_are_as_asked_for_else_as_at_the_first_start(
    settings: dict[str, Any],
    recorded: dict[str, Any] | None,
    found: tuple[str, str | None, int | None],
) -> None:
    known = None if recorded is None else record(**recorded)
    planned = as_recorded(config(**settings), known)
    assert (planned.gradient_scale, planned.weight_by, planned.table_copies) == found
    assert planned.source == "s"


SIZES = Sizes(5, 3, 8, 1)


@pytest.mark.parametrize(
    ("slots", "found"),
    [
        (None, SIZES),
        (9, SIZES),
        (8, SIZES),
        (6, Sizes(5, 3, 6, 1)),
        (4, Sizes(4, 3, 4, 2)),
        (2, Sizes(2, 2, 2, 4)),
    ],
)
def test_members_beyond_the_slots_stand_by(slots: int | None, found: Sizes) -> None:
    assert fitting(SIZES, slots) == found


@pytest.mark.parametrize(
    ("workers", "slots", "said"),
    [
        (2, None, ""),
        (2, 2, ""),
        (
            2,
            1,
            "a step of this run has 1 batch, so 1 of 2 workers stands by; --batches-per-step 2 would give all of them work, "
            "and change what a step computes",
        ),
        (
            5,
            2,
            "a step of this run has 2 batches, so 3 of 5 workers stand by; --batches-per-step 5 would give all of them work, "
            "and change what a step computes",
        ),
    ],
)
def test_workers_without_a_slot_are_told_with_the_flag_that_gives_them_one(
    workers: int, slots: int | None, said: str
) -> None:
    assert surplus_note(config(workers=workers), Slots(slots, 2, 2)) == said


@pytest.mark.parametrize(("count", "planned"), [(2, 2), (1, 1), (0, None)])
def test_graph_of_an_earlier_version_is_planned_for_a_batch_of_each_of_its_workers(
    count: int, planned: int | None
) -> None:
    known = record(config={"workers": {"count": count}})
    assert as_recorded(config(), known).batches_per_step == planned
