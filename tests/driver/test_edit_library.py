"""Do the calls that look at a graph or edit it answer as the commands do?"""

from __future__ import annotations

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

import orchestrator
from orchestrator.errors import ConfigError, GraphRefused, SourceError
from tests.end_to_end.commands import tfresume
from tests.graphs.library import CheckpointLibrary

pytestmark = pytest.mark.tf


def test_outputs_are_those_that_inspect_ranks(tf1_checkpoint: CheckpointLibrary) -> None:
    prefix = tf1_checkpoint("mlp")
    ranked = tfresume("inspect", prefix, "--json").json["outputs"]
    found = orchestrator.outputs(str(prefix))
    assert [one.name for one in found] == [one["name"] for one in ranked]
    assert found[0].dtype == "float32"
    assert found[0].why


def test_edit_gives_the_graph_that_would_be_saved_and_says_what_was_done(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    found = orchestrator.edit(
        str(prefix), swap_optimizer="adam", freeze=["hidden"], reset_step=0, reinit=["out"]
    )
    ops = {node.op for node in MetaGraphDef.FromString(found.meta).graph_def.node}
    assert "ApplyAdam" in ops
    assert "ApplyMomentum" not in ops
    assert [text.split()[0] for text in found.edits] == ["froze", "swapped", "initialised", "began"]


def test_edit_that_cannot_be_made_is_refused_with_all_reasons(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = str(tf1_checkpoint("mlp"))
    with pytest.raises(GraphRefused) as refused:
        orchestrator.edit(prefix, freeze=["nothing"], set={"y:0": 1})
    nodes = [problem["nodes"] for problem in refused.value.details["problems"]]
    assert nodes == [("nothing",), ("y",)]
    with pytest.raises(ConfigError, match="swap_optimiser"):
        orchestrator.edit(prefix, swap_optimiser="adam")
    with pytest.raises(ConfigError, match="no such collection"):
        orchestrator.edit(prefix, drop_collection=["nowhere"])
    with pytest.raises(SourceError):
        orchestrator.outputs(f"{prefix}-nowhere")
