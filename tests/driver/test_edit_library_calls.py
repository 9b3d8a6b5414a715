"""Does a program that looks at a graph or edits it get the command's answers, without TensorFlow?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.driver.edit_library import edit, outputs
from orchestrator.errors import ConfigError, GraphRefused, SourceError
from orchestrator.graph.inference.outputs import predictions
from orchestrator.graph.problem import Problem
from tests.driver.seed_sources import seed_meta, write_seed


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """A graph without a checkpoint."""
    path = tmp_path / "graph.meta"
    path.write_bytes(seed_meta("metrics"))
    return path


def test_outputs_of_a_graph_alone_are_those_that_inspect_ranks(meta: Path) -> None:
    assert outputs(str(meta)) == predictions(MetaGraphDef.FromString(seed_meta("metrics")), "it")
    assert outputs(str(meta))[0].name


def test_graph_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "graph.meta"
    path.write_bytes(b"nothing of the kind")
    for call in (outputs, edit):
        with pytest.raises(SourceError, match=r"graph\.meta"):
            call(str(path))


def test_edited_graph_is_the_one_that_would_be_saved(meta: Path, tmp_path: Path) -> None:
    found = edit(str(meta), freeze=["out/bias"], drop_collection=["losses"])
    assert found.edits == ("froze out/bias",)
    edited = MetaGraphDef.FromString(found.meta)
    assert "losses" in edited.collection_def
    assert edited != MetaGraphDef.FromString(seed_meta("metrics"))
    other = MetaGraphDef.FromString(seed_meta("metrics"))
    other.graph_def.node.add(name="another", op="NoOp")
    named = tmp_path / "other.meta"
    named.write_bytes(other.SerializeToString())
    assert MetaGraphDef.FromString(edit(str(meta), meta=str(named)).meta) == other


def test_edit_is_judged_by_what_the_checkpoint_holds(tmp_path: Path) -> None:
    source = str(write_seed(tmp_path, called={"out/bias": "old/bias"}))
    found = edit(source, rename={"old/bias": "out/bias"})
    assert found.edits == ("took from the checkpoint old/bias as out/bias",)
    with pytest.raises(GraphRefused, match="the checkpoint holds no nowhere"):
        edit(source, rename={"nowhere": "out/bias"})


def test_edits_that_cannot_be_made_are_refused_with_all_of_them(meta: Path) -> None:
    with pytest.raises(GraphRefused) as refused:
        edit(str(meta), freeze=["out/bias", "nothing"], set={"x:0": 1}, reset_step=3)
    problems = [Problem(**each) for each in refused.value.details["problems"]]
    assert [(each.severity, each.nodes) for each in problems] == [
        ("error", ("nothing",)),
        ("error", ("x",)),
    ]
    assert refused.value.message == f"{meta} can't be edited as asked: {problems[0].message}"
    assert refused.value.remedy == problems[0].remedy
    assert asdict(problems[0]) == refused.value.details["problems"][0]
    with pytest.raises(ConfigError, match="there is no such key"):
        edit(str(meta), swap_optimiser="adam")
