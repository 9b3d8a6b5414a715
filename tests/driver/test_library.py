"""Does one call take what `import_meta_graph` takes, and do what the command does?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

import orchestrator
from orchestrator.config import parse_config
from orchestrator.driver.chosen_graph import chosen_graph, graph_to_train, keep_collections
from orchestrator.driver.library import dropped_collections
from orchestrator.errors import ConfigError, GraphRefused, SourceError
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.graphdef.undo import COLLECTION
from orchestrator.graph.plan import plan
from tests.end_to_end import inputs
from tests.end_to_end.commands import plain_variables
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.turns(32, "whole runs")]


def _meta(prefix: Path) -> MetaGraphDef:
    return read_meta(Path(f"{prefix}.meta").read_bytes(), name=prefix.name)


def test_resume_proto_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(ConfigError, match="source=PREFIX"):
        orchestrator.resume(MetaGraphDef(), output="memory://out", steps=1)


def test_resume_graph_without_variables_says_nothing_to_resume(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    meta = MetaGraphDef()
    meta.meta_info_def.tensorflow_version = "1.15.0"
    meta.graph_def.versions.producer = 134
    meta.graph_def.node.add(name="nothing", op="NoOp")
    source = tf1_checkpoint("mlp", optimizer="sgd")
    with pytest.raises(GraphRefused, match="nothing to resume"):
        orchestrator.resume(meta, source=str(source), output=str(tmp_path / "out"), steps=1)
    assert not (tmp_path / "out").exists()


def test_chosen_graph_named_file_replaces_the_checkpoints_own_until_the_run_has_its_own(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    own = _meta(tf1_checkpoint("mlp", optimizer="sgd"))
    other = _meta(tf1_checkpoint("mlp", optimizer="adagrad"))
    named = tmp_path / "other.pbtxt"
    named.write_text(text_format.MessageToString(other))
    assert chosen_graph(own, str(named)) == other
    assert chosen_graph(own, str(named), of_this_run=True) is own
    with pytest.raises(SourceError):
        chosen_graph(own, str(tmp_path / "nowhere.meta"))


def test_predicate_drops_collections_from_the_plan_and_not_from_what_is_saved(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    source = tf1_checkpoint("mlp", optimizer="sgd")
    dropped = dropped_collections({"source": str(source)}, lambda name: name != "losses")
    assert dropped == ["losses"]
    whole = _meta(source)
    config = parse_config({"source": str(source), "drop_collection": dropped, "input": "m:f"})
    planned = plan(graph_to_train(whole, config), config).worker_graph
    assert planned is not None
    assert "losses" not in MetaGraphDef.FromString(planned.meta).collection_def
    kept = MetaGraphDef.FromString(keep_collections(planned, whole, config).original_meta)
    assert "losses" in kept.collection_def


def test_predicate_that_never_heard_of_the_record_of_edits_does_not_drop_it(tmp_path: Path) -> None:
    meta = MetaGraphDef()
    meta.graph_def.node.add(name="x", op="NoOp")
    for name in (COLLECTION, "losses", "summaries"):
        meta.collection_def[name].bytes_list.value.append(b"x")
    (tmp_path / "graph.meta").write_bytes(meta.SerializeToString())
    values = {"source": "s", "meta": str(tmp_path / "graph.meta")}
    assert dropped_collections(values, lambda name: name == "losses") == ["summaries"]


def test_dropped_collection_that_is_not_there_is_named(tf1_checkpoint: CheckpointLibrary) -> None:
    source = tf1_checkpoint("mlp", optimizer="sgd")
    with pytest.raises(ConfigError, match="nonesuch"):
        graph_to_train(
            _meta(source), parse_config({"source": str(source), "drop_collection": ["nonesuch"]})
        )


@pytest.mark.ray
def test_resume_call_with_proto_scope_and_mapped_input_does_what_the_command_does(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source = tf1_checkpoint("mlp", optimizer="sgd")
    (tmp_path / "scoped.py").write_text(
        "from tests.end_to_end import inputs\n\n\ndef batches(ctx):\n    for each in inputs.mlp(ctx):\n"
        "        yield {'pixels': each['x:0'], 'old/y:0': each['y:0']}\n"
    )
    result = orchestrator.resume(
        _meta(source),
        import_scope="old",
        restore_collections_predicate=lambda name: name != "losses",
        source=str(source),
        output=str(tmp_path / "out"),
        until_step=6,
        workers=2,
        address=ray_address,
        input=f"{tmp_path / 'scoped.py'}:batches",
        input_map={"x:0": "pixels"},
    )
    assert (result.status, result.final_step, result.incidents) == ("done", 6, ())
    assert result.checkpoint is not None
    joined = [
        {
            name: np.concatenate([inputs.batch("mlp", 2 * step + rank)[name] for rank in range(2)])
            for name in ("x:0", "y:0")
        }
        for step in range(3)
    ]
    ours, theirs = (
        plain_variables(result.checkpoint, tmp_path),
        plain_variables(source, tmp_path, joined),
    )
    for name, value in theirs.items():
        np.testing.assert_allclose(
            ours[name],
            value,
            rtol=0,
            atol=1e-6 * max(1e-6, float(np.max(np.abs(value)))),
            err_msg=name,
        )
