"""Are random operations given seeds where they have none, and left alone where they have?"""

from __future__ import annotations

import pytest
from tensorboard.compat.proto.graph_pb2 import GraphDef

from orchestrator.graph.random.seeds import give_seeds


def _graph() -> GraphDef:
    graph = GraphDef()
    graph.node.add(name="free", op="RandomUniform")
    graph.node.add(name="fixed", op="TruncatedNormal").attr["seed2"].i = 7
    graph.node.add(name="plain", op="Add")
    graph.node.add(name="stateless", op="StatelessRandomUniform")
    body = graph.library.function.add()
    body.signature.name = "f"
    body.node_def.add(name="free", op="RandomStandardNormal")
    return graph


def test_seeds_are_given_to_nodes_without_any_and_in_function_bodies() -> None:
    graph = _graph()
    assert give_seeds(graph, 0) == ("free", "f/free")
    given = graph.node[0].attr["seed2"].i, graph.library.function[0].node_def[0].attr["seed2"].i
    assert graph.node[0].attr["seed"].i == 1
    assert 0 not in given
    assert given[0] != given[1]
    assert graph.node[1].attr["seed2"].i == 7
    assert not graph.node[2].attr


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_seeds_follow_from_the_runs_seed_alone(seed: int) -> None:
    first, second, other = _graph(), _graph(), _graph()
    give_seeds(first, seed)
    give_seeds(second, seed)
    give_seeds(other, seed + 1)
    assert first == second
    assert first != other
