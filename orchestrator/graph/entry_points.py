"""Where does data enter a graph, and what feeds each entry point?

Rule: placeholders by their static shape; queues, iterators and readers by the outputs that the
graph takes out of them, with the operations that fill the queue or make up the iterator's dataset.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.collection_protos import QueueRunnerDef
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_name, output_dtypes
from orchestrator.graph.graphdef.view import Edge, parse_tensor
from orchestrator.graph.inputs.ports import PLACEHOLDERS, element_shapes, placeholder_shape
from orchestrator.graph.inspect_report import InputEntry

MAKERS = frozenset({"MakeIterator"})


def inputs(graph: Graph, needed: Collection[str]) -> tuple[InputEntry, ...]:
    """All entry points, those that ``needed`` (the train ops' ancestors) holds first."""
    runners = {parse_tensor(name).node for name in queues_with_runners(graph.meta)}
    found = [*_placeholders(graph, needed), *_pipelines(graph, needed, runners)]
    return tuple(sorted(found, key=lambda entry: not entry.needed))


def queues_with_runners(meta: MetaGraphDef) -> Iterator[str]:
    """The names of the queues that a queue runner fills."""
    if "queue_runners" in meta.collection_def:
        for value in meta.collection_def["queue_runners"].bytes_list.value:
            try:
                yield QueueRunnerDef.FromString(value).queue_name
            except DecodeError:
                continue


def _placeholders(graph: Graph, needed: Collection[str]) -> Iterator[InputEntry]:
    for name, op in graph.view.ops.items():
        if op in PLACEHOLDERS:
            dtype = dtype_name(attribute(graph.view.nodes[name], "dtype").type)
            shape = placeholder_shape(graph, name)
            yield InputEntry(
                f"{name}:0",
                "placeholder",
                op,
                dtype,
                shape,
                name in needed,
                op == "PlaceholderWithDefault",
            )


def _pipelines(
    graph: Graph, needed: Collection[str], runners: Collection[str]
) -> Iterator[InputEntry]:
    for name in graph.view.nodes:
        origin = graph.traits(name).source
        if not origin:
            continue
        types = output_dtypes(graph.view.nodes[name], graph.definition(name))
        shapes = element_shapes(graph, name, len(types))
        handle = graph.view.data[name][0].node if graph.view.data[name] else ""
        fed_by = tuple(_fed_by(graph, handle))
        for port, dtype in enumerate(types):
            yield InputEntry(
                Edge(name, port).tensor,
                origin,
                graph.view.op(name),
                dtype,
                shapes[port],
                name in needed,
                fed_by=fed_by,
                runner=handle in runners,
            )


def _fed_by(graph: Graph, handle: str) -> Iterator[str]:
    """What fills a queue, or the dataset operations of an iterator, nearest first."""
    for use in graph.view.uses.get(handle, ()):
        op = graph.view.op(use.node)
        if "Enqueue" in op:
            yield use.node
        elif op in MAKERS:
            yield from _datasets(graph, use.node)
    if graph.view.op(handle) == "OneShotIterator":
        yield attribute(graph.view.nodes[handle], "dataset_factory").func.name


def _datasets(graph: Graph, maker: str) -> Iterator[str]:
    current = graph.view.data[maker][0].node if graph.view.data[maker] else ""
    for _ in range(100):
        if not graph.view.op(current).endswith(("Dataset", "DatasetV2", "DatasetV3")):
            return
        yield f"{graph.view.op(current)} {current}"
        if not graph.view.data[current]:
            return
        current = graph.view.data[current][0].node
