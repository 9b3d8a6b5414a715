"""Does a start edit the graph by the flags of now alone, and say how each edit is undone?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver.edited_graph import (
    Edited,
    edited_graph,
    once_edited,
    source_loading,
)
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import WorkerGraph
from tests.driver.seed_sources import seed_meta

ALL: dict[str, Any] = {
    "freeze": ["out"],
    "swap_optimizer": "adam",
    "clip_global_norm": 1.0,
    "set": {"x:0": "1"},
    "rename": {"a": "b"},
    "restore_only": ["out"],
    "reinit": ["out"],
    "reset_slots": True,
    "reset_step": 7,
}
FIRST = {"rename", "restore_only", "reinit", "reset_slots", "reset_step"}


def seed() -> MetaGraphDef:
    return MetaGraphDef.FromString(seed_meta("metrics"))


def config(**flags: Any) -> RunConfig:
    return RunConfig(source="s", **flags)


def test_graph_that_is_edited_already_is_planned_without_the_flags_that_edited_it() -> None:
    asked = config(**ALL, seed=5)
    plain = config()
    once = once_edited(asked)
    assert {name for name in ALL if getattr(once, name) != getattr(plain, name)} == FIRST
    own = once_edited(asked, of_this_run=True)
    assert {name for name in ALL if getattr(own, name) != getattr(plain, name)} == set()
    assert (once.seed, own.seed) == (5, 5)


def test_edits_are_told_each_with_its_way_back() -> None:
    found = edited_graph(seed(), config(freeze=["out/bias"], reset_step=40), None)
    assert found.edits == ("froze out/bias", "began at step 40")
    assert found.problems == (
        Problem("edited", "warning", "as asked: froze out/bias", "Leave the flag out to undo it"),
        Problem(
            "edited",
            "warning",
            "as asked: began at step 40",
            "To undo it, start anew into another output",
        ),
    )
    assert found.loading == Loading(step=40)


def test_refusals_stand_before_what_was_done() -> None:
    found = edited_graph(seed(), config(freeze=["out/bias", "nothing"]), None)
    assert [problem.severity for problem in found.problems][:1] == ["error"]


@pytest.mark.parametrize("is_own", [False, True])
def test_checkpoint_of_the_runs_own_loses_its_edits_and_begins_nowhere_else(is_own: bool) -> None:
    once = edited_graph(seed(), config(clip_global_norm=1.0), None).saved
    found = edited_graph(once, config(freeze=["out/bias"], reset_step=40), None, of_this_run=is_own)
    assert found.loading.step == (None if is_own else 40)
    ops = [node.op for node in found.meta.graph_def.node]
    assert ("IsFinite" in ops) is not is_own
    assert found.edits == ("froze out/bias",) + (() if is_own else ("began at step 40",))


def test_dropped_collection_is_out_of_what_is_trained_and_in_what_is_saved() -> None:
    found = edited_graph(seed(), config(drop_collection=["losses"], freeze=["out/bias"]), None)
    assert "losses" not in found.meta.collection_def
    assert found.saved.collection_def["losses"] == seed().collection_def["losses"]


def test_planned_graph_has_the_edits_and_the_repairs_of_before_them() -> None:
    edited = Edited(MetaGraphDef(), MetaGraphDef(), None, edits=("froze",), repairs=("first",))
    planned = WorkerGraph(b"", b"", (), (), (), repairs=("then",))
    expected = replace(planned, edits=("froze",), repairs=("first", "then"))
    assert edited.told_in(planned) == expected


OTHERWISE = Loading(step=40)


@pytest.mark.parametrize(
    ("own", "first", "found"),
    [
        (AS_SAVED, {}, AS_SAVED),
        (AS_SAVED, {"reset_step": None, "rename": {}, "seed": 4}, AS_SAVED),
        (AS_SAVED, {"reset_step": 0}, None),
        (AS_SAVED, {"rename": {"a": "b"}}, None),
        (OTHERWISE, {"reset_step": 40}, OTHERWISE),
        (OTHERWISE, {}, OTHERWISE),
    ],
)
def test_source_is_read_as_the_first_start_read_it_or_not_at_all(
    own: Loading, first: dict[str, object], found: Loading | None
) -> None:
    assert source_loading(own, first) == found
