"""Is the graph that is trained the one that was named, with just the collections that were kept?"""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import parse_config
from orchestrator.driver.chosen_graph import (
    chosen_graph,
    graph_to_train,
    keep_collections,
    with_collections,
    without_collections,
)
from orchestrator.errors import ConfigError, SourceError
from orchestrator.graph.graphdef.undo import COLLECTION
from orchestrator.graph.worker_graph import WorkerGraph

NAMES = ("losses", "summaries", "train_op", "update_ops", "words", "zeros")


def graph(*collections: str, node: str = "x") -> MetaGraphDef:
    meta = MetaGraphDef()
    meta.graph_def.node.add(name=node, op="NoOp")
    for name in collections:
        meta.collection_def[name].bytes_list.value.append(name.encode())
    return meta


def test_graph_that_was_named_is_trained_without_the_collections_that_are_dropped(
    tmp_path: Path,
) -> None:
    named = tmp_path / "other.meta"
    named.write_bytes(graph("a", "b", node="y").SerializeToString())
    settings = {"source": "s", "meta": str(named), "drop_collection": ["a"]}
    assert graph_to_train(graph(), parse_config(settings)) == graph("b", node="y")
    own = graph("a")
    assert graph_to_train(own, parse_config({"source": "s"})) is own


def test_file_that_holds_no_graph_is_named(tmp_path: Path) -> None:
    named = tmp_path / "other.meta"
    named.write_bytes(b"nothing of the kind")
    with pytest.raises(SourceError, match=r"other\.meta"):
        chosen_graph(graph(), str(named))
    own = graph()
    assert chosen_graph(own, str(named), of_this_run=True) is own


@pytest.mark.parametrize(
    ("dropped", "there", "message", "remedy"),
    [
        (
            ["c", "a", "b"],
            ("losses", "a"),
            "--drop-collection b, c: the graph has no such collection",
            "It has a, losses",
        ),
        (["a"], (), "--drop-collection a: the graph has no such collection", "It has none"),
        (
            [COLLECTION],
            (COLLECTION,),
            f"--drop-collection {COLLECTION}: it's tfresume's own record of how the graph was edited, "
            "without which no later start can undo that",
            "Leave it out: TensorFlow imports it as text that means nothing to it",
        ),
    ],
)
def test_collection_that_cannot_be_dropped_is_refused(
    dropped: list[str], there: tuple[str, ...], message: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        without_collections(graph(*there), dropped)
    assert (refused.value.message, refused.value.remedy) == (message, remedy)


def test_dropped_collections_come_back_as_they_were_and_no_graph_is_changed() -> None:
    whole = graph("a", "b", "c")
    less = without_collections(whole, ["a", "c"])
    assert less == graph("b")
    assert with_collections(less, whole, ["a", "c"]) == whole == graph("a", "b", "c")
    assert less == graph("b")
    assert with_collections(less, whole, []) is less


def test_graph_is_saved_with_all_its_collections_and_by_every_driver_in_the_same_bytes() -> None:
    planned = WorkerGraph(b"planned", b"without", (), (), ())
    dropping = parse_config({"source": "s", "drop_collection": ["losses"]})
    for whole in (graph(*NAMES), graph(*reversed(NAMES))):
        found = keep_collections(planned, whole, dropping)
        assert found.original_meta == graph(*NAMES).SerializeToString(deterministic=True)
        assert found.meta == b"planned"
    assert keep_collections(planned, graph(), parse_config({"source": "s"})) is planned
