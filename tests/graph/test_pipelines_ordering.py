"""What a dataset leaves to chance is settled, and what an old release wrote is written as its
successor.
"""

from __future__ import annotations

import numpy as np
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.constants import integer_in
from orchestrator.graph.graphdef.edit import constant_attributes
from orchestrator.graph.graphdef.opset import installed
from orchestrator.graph.inputs.ordering import settle_order

OPS = installed()


def add(nodes: object, op: str, name: str, *inputs: str) -> NodeDef:
    node: NodeDef = nodes.add(name=name, op=op)  # type: ignore[attr-defined]
    node.input.extend(inputs)
    return node


def constant(nodes: object, name: str, value: object) -> None:
    for key, attribute in constant_attributes(np.asarray(value)).items():
        add_or_find(nodes, name).attr[key].CopyFrom(attribute)


def add_or_find(nodes: object, name: str) -> NodeDef:
    for node in nodes:  # type: ignore[attr-defined]
        if node.name == name:
            found: NodeDef = node
            return found
    return add(nodes, "Const", name)


def factory(seed: int) -> MetaGraphDef:
    """``source > shuffle > old optimizer > old batch`` within a function."""
    meta = MetaGraphDef()
    function = meta.graph_def.library.function.add()
    function.signature.name = "factory"
    for name, value in (("zero", np.int64(seed)), ("size", np.int64(8))):
        constant(function.node_def, name, value)
    add(function.node_def, "TensorSliceDataset", "source")
    shuffled = ("source:handle:0", "size:output:0", "zero:output:0", "zero:output:0")
    add(function.node_def, "ShuffleDataset", "shuffle", *shuffled)
    add(function.node_def, "OptimizeDataset", "optimize", "shuffle:handle:0", "size:output:0")
    add(function.node_def, "BatchDataset", "batch", "optimize:handle:0", "size:output:0")
    function.ret["dataset"] = "batch:handle:0"
    return meta


def settled(meta: MetaGraphDef, seed: int = 3) -> dict[str, NodeDef]:
    (function,) = meta.graph_def.library.function
    settle_order(meta, OPS, [("factory", node.name) for node in function.node_def], seed)
    return {node.name: node for node in function.node_def}


def seeds(nodes: dict[str, NodeDef]) -> list[int | None]:
    sources = [nodes[text.partition(":")[0]] for text in nodes["shuffle"].input[2:]]
    return [integer_in(source.attr["value"].tensor) for source in sources]


def test_settle_with_an_unseeded_shuffle_gives_it_the_runs_seed_and_its_own() -> None:
    first, second = seeds(settled(factory(0)))
    assert first == 3
    assert second


def test_settle_with_a_seeded_shuffle_leaves_it_alone() -> None:
    assert seeds(settled(factory(7))) == [7, 7]


def test_settle_twice_with_one_seed_gives_the_same_graph() -> None:
    one, two = factory(0), factory(0)
    settled(one)
    settled(two)
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)


def test_settle_passes_by_the_old_optimizer() -> None:
    assert settled(factory(0))["batch"].input[0] == "shuffle:handle:0"


def test_settle_writes_an_old_batch_as_its_successor_that_keeps_the_last_rows() -> None:
    nodes = settled(factory(0))
    assert nodes["batch"].op == "BatchDatasetV2"
    drop = nodes[nodes["batch"].input[2].partition(":")[0]].attr["value"].tensor
    assert drop.tensor_content == b"\x00"


def test_settle_keeps_the_order_of_parallel_stages() -> None:
    meta = MetaGraphDef()
    node = add(meta.graph_def.node, "ParallelMapDatasetV2", "map")
    node.attr["deterministic"].s = b"false"
    older = add(meta.graph_def.node, "ParallelMapDataset", "older")
    older.attr["sloppy"].b = True
    settle_order(meta, OPS, [("", "map"), ("", "older")], 0)
    assert node.attr["deterministic"].s == b"true"
    assert older.attr["sloppy"].b is False


def test_settle_leaves_what_doesnt_belong_to_a_pipeline() -> None:
    meta = factory(0)
    before = meta.SerializeToString(deterministic=True)
    settle_order(meta, OPS, [("factory", "size"), ("unknown function", "shuffle")], 3)
    assert meta.SerializeToString(deterministic=True) == before
