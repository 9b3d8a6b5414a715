"""Does every setting reach those who follow it: the rules, and the workers?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide.policy import Policy
from orchestrator.driver.slots import Slots
from orchestrator.driver.startup import policy_of, setup_of
from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart, ShardedTables
from orchestrator.store.checkpoints.chains import MAX_LINKS
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import RunRecord
from orchestrator.workers.orders import CheckpointFiles, Setup

SOURCE = {"source": "s", "output": "o", "until_step": 9}

GRAPH = WorkerGraph(b"", b"", (), (), (Variable("w", "ref", "float32", (3,)),))
PART = ShardedPart("t", "t", ("t",), 40, (2,), "first", "count")
DIVIDED = replace(GRAPH, tables=ShardedTables((PART,), fewest=3, copies=2))
ALONE = replace(GRAPH, group_refused="it draws")
TWICE = replace(GRAPH, run_batches=(0, 1))


def policy(graph: WorkerGraph = GRAPH, slots: int | None = None, **settings: Any) -> Policy:
    return policy_of(parse_config(SOURCE | settings), graph, 77, slots)


@pytest.mark.parametrize(
    ("settings", "part", "field", "value"),
    [
        ({"workers": {"count": 3, "min": 2, "max": 5}}, "sizes", "count", 3),
        ({"workers": {"count": 3, "min": 2, "max": 5}}, "sizes", "smallest", 2),
        ({"workers": {"count": 3, "min": 2, "max": 5}}, "sizes", "largest", 5),
        ({"workers": {"count": 3, "standby": 4}}, "sizes", "standby", 4),
        ({"on_loss": "shrink"}, "sizes", "on_loss", "shrink"),
        ({"on_resize": "wait"}, "sizes", "on_resize", "wait"),
        ({"save_steps": 7}, "saving", "save_steps", 7),
        ({"save_secs": 8.0}, "saving", "save_every_s", 8.0),
        ({"save_policy": "wait"}, "saving", "when_busy", "wait"),
        ({"max_failed_saves": 9}, "saving", "max_failed", 9),
        ({"on_nonfinite": "rollback"}, "saving", "on_nonfinite", "rollback"),
        ({"on_outlier": "stop"}, "saving", "on_outlier", "stop"),
        ({"outlier_factor": 10.0}, "saving", "outlier_factor", 10.0),
        ({}, "saving", "in_parts", False),
        ({}, "saving", "alike", (12,)),
        ({}, "saving", "most_links", 0),
        ({}, "", "until", 77),
        ({"hang_floor_s": 11.0}, "", "hang_floor_s", 11.0),
        ({"wait_s": 12.0}, "", "wait_s", 12.0),
        ({"batch_size": 13}, "", "batch_size", 13),
        ({"max_losses_per_hour": 14}, "", "max_losses_per_hour", 14),
        ({}, "", "in_place", True),
        ({"exchange": "nccl"}, "", "in_place", False),
        ({}, "", "peers_tell", True),
        ({"workers": {"gpus": 1}}, "", "peers_tell", False),
    ],
    ids=str,
)
def test_setting_reaches_the_rules(
    settings: dict[str, Any], part: str, field: str, value: Any
) -> None:
    found = policy(**settings)
    assert getattr(getattr(found, part) if part else found, field) == value


def test_what_the_graph_asks_for_reaches_the_rules() -> None:
    assert policy(GRAPH, 4).batches_per_step == 4
    assert policy(GRAPH).batches_per_step is None
    assert policy(TWICE, 4).batches_per_slot == 2
    found = policy(DIVIDED, workers={"count": 5, "min": 2}, save_changed_rows=True)
    assert found.sizes.smallest == 3  # fewer have no room for all rows
    assert (found.table_copies, found.saving.in_parts) == (2, True)
    assert found.saving.most_links == MAX_LINKS
    assert policy(DIVIDED, workers={"count": 5, "min": 4}).sizes.smallest == 4


def test_group_has_as_many_members_as_a_step_has_batches_and_the_others_stand_by() -> None:
    sizes = policy(GRAPH, 2, workers=5).sizes
    assert (sizes.count, sizes.smallest, sizes.largest, sizes.standby) == (2, 2, 2, 3)


def test_graph_that_trains_alone_takes_one_worker_and_refuses_more() -> None:
    for slots in (1, None):
        assert policy(ALONE, slots, workers={"count": 1, "max": 4}).sizes.largest == 1
    with pytest.raises(ConfigError, match="on one worker only: it draws") as refused:
        policy(ALONE, 1, workers=2)
    assert refused.value.remedy == "Use --workers 1"


def setup(graph: WorkerGraph = GRAPH, **settings: Any) -> Setup:
    config = parse_config(SOURCE | settings)
    files = CheckpointFiles(3, 0, "m-3", ())
    known = {"source": "s", "fingerprint": "f", "name": "model.ckpt", "started_step": 3}
    record = RunRecord.model_validate(known | {"gradient_scale": "sum"})
    place = open_location("memory://out")
    made = setup_of(config, graph, place, record, files, Slots(4, 3, 6), b"secret")
    assert (made.graph, made.config, made.output, made.start) == (graph, config, place, files)
    return made


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        ({}, "exchange", "host"),
        ({"exchange": "nccl"}, "exchange", "nccl"),
        ({}, "batches_per_step", 6),
        ({}, "gradient_scale", "sum"),
        ({"gradient_scale": "mean"}, "gradient_scale", "mean"),
        ({"save_changed_rows": True}, "changed_rows", True),
        ({"seed": 5}, "seed", 5),
        ({"deterministic": True}, "deterministic", True),
        ({"workers": {"count": 2, "max": 7}}, "max_world_size", 7),
        ({}, "gpu", False),
        ({"workers": {"gpus": 1}}, "gpu", True),
        ({"workers": {"gpus": 0.5}}, "gpu", True),
        ({}, "gpu_memory_fraction", None),
        ({"workers": {"gpus": 0.5}}, "gpu_memory_fraction", 0.5),
        ({"workers": {"gpus": 1}}, "gpu_memory_fraction", None),
        ({}, "reserved_bytes", None),
        ({"workers": {"memory_bytes": 0}}, "reserved_bytes", None),
        ({"workers": {"memory_bytes": 1000}}, "reserved_bytes", 1000),
        ({"import_modules": ["mine"]}, "import_modules", ("mine",)),
        ({"load_op_library": ["ops.so"]}, "load_op_library", ("ops.so",)),
        ({"py_func": {"pyfunc_0": "mine:read"}}, "py_func", {"pyfunc_0": "mine:read"}),
    ],
    ids=str,
)
def test_setting_reaches_the_workers(settings: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(setup(**settings).options, field) == value


def test_worker_is_made_with_what_outlives_a_generation() -> None:
    made = setup(orphan_timeout_s=33.0)
    assert made.name == "model.ckpt"
    assert made.orphan_timeout_s == 33.0
    assert made.first_batches_per_step == 3
    assert made.secret == b"secret"
    assert setup(ALONE, workers={"count": 1, "max": 4}).options.max_world_size == 1
