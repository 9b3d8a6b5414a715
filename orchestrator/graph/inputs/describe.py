"""What does each input pipeline of a graph read, run and wait for?

Rule: everything that the operation which makes up the dataset (or fills the queue) needs, function
bodies included, belongs to the pipeline; its stages are what a batch passes on its way, from the
source on. Linear in what the pipelines hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import integer_in
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_name, input_slots, output_dtypes
from orchestrator.graph.inputs.bodies import PLACEHOLDERS, Bodies, NodePlace
from orchestrator.graph.inputs.pipeline import Output, Pipeline, PipelineStage
from orchestrator.graph.inputs.ports import element_shapes, placeholder_shape
from orchestrator.graph.inputs.sources import files_of, python_calls

ONE_SHOT = "OneShotIterator"
MAKE_ITERATOR = "MakeIterator"
HANDLES = ("IteratorFromStringHandle",)
STAGE_LIMIT = 1000
"""Longest chain of datasets that is followed; only a damaged file has a longer one."""


@dataclass
class _Found:
    """What belongs to one pipeline before it's described: its nodes, and how it's started."""

    places: list[NodePlace] = field(default_factory=list)
    stages: list[PipelineStage] = field(default_factory=list)
    starters: list[str] = field(default_factory=list)
    inner: list[str] = field(default_factory=list)


def describe(graph: Graph) -> tuple[Pipeline, ...]:
    """All pipelines of ``graph``, in the order of its nodes."""
    takers = takers_by_source(graph)
    if not takers:
        return ()
    bodies = Bodies(graph.meta.graph_def)
    gathered = {source: _gathered(graph, bodies, source) for source in takers}
    filling = {inner for found in gathered.values() for inner in found.inner}
    return tuple(
        _pipeline(graph, bodies, source, names, gathered[source])
        for source, names in takers.items()
        if source not in filling
    )


def _gathered(graph: Graph, bodies: Bodies, source: str) -> _Found:
    return (
        _iterator(graph, bodies, source)
        if _is_iterator(graph, source)
        else _queue(graph, bodies, source)
    )


def members(graph: Graph, bodies: Bodies, pipeline: Pipeline) -> tuple[tuple[str, str], ...]:
    """(function, node) of everything that makes up a pipeline, as ``bodies`` has it."""
    return tuple(
        (place.function, place.node.name)
        for place in _gathered(graph, bodies, pipeline.name).places
    )


def takers_by_source(graph: Graph) -> dict[str, list[str]]:
    """Iterator or queue node to the GetNext or Dequeue nodes that take batches out of it."""
    takers: dict[str, list[str]] = defaultdict(list)
    for name in graph.view.nodes:
        if graph.traits(name).source in ("iterator", "queue") and graph.view.data[name]:
            takers[graph.view.data[name][0].node].append(name)
    return {source: names for source, names in takers.items() if source in graph.view}


def _is_iterator(graph: Graph, source: str) -> bool:
    return "Iterator" in graph.view.op(source)


def _pipeline(
    graph: Graph, bodies: Bodies, source: str, takers: list[str], found: _Found
) -> Pipeline:
    iterator = _is_iterator(graph, source)
    nodes = [place.node for place in found.places]
    top = [place.node.name for place in found.places if not place.function]
    return Pipeline(
        name=source,
        kind="iterator" if iterator else "queue",
        op=graph.view.op(source),
        outputs=tuple(output for taker in takers for output in _outputs(graph, taker)),
        takers=tuple(takers),
        stages=tuple(found.stages),
        files=tuple(files_of(bodies, graph.ops, found.places)),
        calls=tuple(python_calls(found.places)),
        embedded_bytes=_embedded(bodies, found.places),
        placeholders=tuple(
            (
                name,
                dtype_name(attribute(graph.view.nodes[name], "dtype").type),
                placeholder_shape(graph, name),
            )
            for name in top
            if graph.view.op(name) in PLACEHOLDERS
        ),
        starters=tuple(found.starters),
        inner_queues=tuple(found.inner),
        unseeded=tuple(
            place.label for place in found.places if _draws_unseeded(graph, bodies, place)
        ),
        endless=any(_repeats(graph, bodies, place) for place in found.places)
        if iterator
        else _endless_queue(nodes),
        handle=graph.view.op(source).startswith(HANDLES) or graph.view.op(source) in PLACEHOLDERS,
        functions=tuple(dict.fromkeys(place.function for place in found.places if place.function)),
    )


def _outputs(graph: Graph, taker: str) -> Iterator[Output]:
    types = output_dtypes(graph.view.nodes[taker], graph.definition(taker))
    shapes = element_shapes(graph, taker, len(types))
    for port, dtype in enumerate(types):
        yield Output(f"{taker}:{port}", dtype, shapes[port])


def _iterator(graph: Graph, bodies: Bodies, source: str) -> _Found:
    found = _Found()
    ends: list[NodePlace] = []
    node = graph.view.nodes[source]
    if node.op == ONE_SHOT:
        for name in bodies.called(node):
            ends.extend(bodies.results(name))
        found.places.extend(bodies.reached([node]))
    makers = [
        use.node
        for use in graph.view.uses[source]
        if graph.view.op(use.node) == MAKE_ITERATOR and use.slot == 1
    ]
    found.starters.extend(makers)
    top = graph.view.ancestors(makers)
    found.places.extend(NodePlace("", graph.view.nodes[name]) for name in sorted(top))
    found.places.extend(
        bodies.reached(place.node for place in list(found.places) if not place.function)
    )
    for maker in makers:
        end = bodies.find("", bodies.data_inputs(NodePlace("", graph.view.nodes[maker]))[0])
        ends.extend([end] if end is not None else [])
    found.stages.extend(_dataset_stages(bodies, ends))
    return found


def _dataset_stages(bodies: Bodies, ends: Iterable[NodePlace]) -> list[PipelineStage]:
    """The chain of datasets that ends in ``ends``, sources first; of several inputs (zip,
    concatenate) the first is the chain.
    """
    for end in ends:
        stages: list[PipelineStage] = []
        place: NodePlace | None = end
        while place is not None and len(stages) < STAGE_LIMIT:
            node = place.node
            if "Dataset" in node.op:
                inside = tuple(
                    inner.node.op for inner in bodies.reached([node]) if "Dataset" in inner.node.op
                )
                stages.append(PipelineStage(node.op, place.label, inside))
            inputs = bodies.data_inputs(place)
            place = (
                bodies.find(place.function, inputs[0]) if inputs and node.op != "Const" else None
            )
        return stages[::-1]
    return []


def _queue(graph: Graph, bodies: Bodies, source: str) -> _Found:
    """What fills a queue, through all queues behind it."""
    found = _Found()
    waiting, seen, members = [source], {source}, set[str]()
    while waiting:
        queue = waiting.pop()
        fillers = [
            use.node
            for use in graph.view.uses[queue]
            if "Enqueue" in graph.view.op(use.node) and use.slot == 0
        ]
        found.starters.extend(fillers)
        behind = graph.view.ancestors(fillers)
        members |= behind
        for name in behind:
            if graph.traits(name).source in ("queue", "reader"):
                inner = [
                    edge.node
                    for edge in graph.view.data[name]
                    if "Queue" in graph.view.op(edge.node)
                ]
                waiting.extend(queue for queue in inner if queue not in seen)
                seen.update(inner)
    found.inner.extend(sorted(seen - {source}))
    found.places.extend(NodePlace("", graph.view.nodes[name]) for name in sorted(members))
    found.places.extend(bodies.reached([place.node for place in found.places]))
    readers = sorted(name for name in members if graph.traits(name).source == "reader")
    found.stages.extend(
        PipelineStage(graph.view.op(name), name) for name in (*found.inner, *readers, source)
    )
    return found


def _embedded(bodies: Bodies, places: Iterable[NodePlace]) -> int:
    size = 0
    for place in places:
        if place.node.op in ("TensorSliceDataset", "TensorDataset", "SparseTensorSliceDataset"):
            inputs = [bodies.find(place.function, text) for text in bodies.data_inputs(place)]
            size += sum(
                found.node.ByteSize()
                for found in inputs
                if found is not None and found.node.op == "Const"
            )
    return size


def _endless_queue(nodes: Iterable[NodeDef]) -> bool:
    # ``num_epochs`` of the producers of TensorFlow 1 is a CountUpTo: ``limit_epochs`` of
    # ``python/training/input.py``
    return not any(node.op == "CountUpTo" for node in nodes)


def integer_input(graph: Graph, bodies: Bodies, place: NodePlace, argument: str) -> int | None:
    """The value of an integer input of a node where a constant of the same body gives it; None
    where it doesn't.
    """
    definition = graph.ops.get(place.node.op)
    slots = {} if definition is None else input_slots(place.node, definition, frozenset({argument}))
    inputs = bodies.data_inputs(place)
    if argument not in slots or slots[argument] >= len(inputs):
        return None
    source = bodies.find(place.function, inputs[slots[argument]])
    for _ in range(STAGE_LIMIT):
        if source is None or source.node.op != "Identity":
            break
        source = bodies.find(source.function, bodies.data_inputs(source)[0])
    if source is None or source.node.op != "Const" or "value" not in source.node.attr:
        return None
    return integer_in(source.node.attr["value"].tensor)


def _repeats(graph: Graph, bodies: Bodies, place: NodePlace) -> bool:
    if place.node.op not in (
        "RepeatDataset",
        "ShuffleAndRepeatDataset",
        "ShuffleAndRepeatDatasetV2",
    ):
        return False
    count = integer_input(graph, bodies, place, "count")
    return count is not None and count < 0


def _draws_unseeded(graph: Graph, bodies: Bodies, place: NodePlace) -> bool:
    """Whether a shuffle takes its seed from the process: both of its seeds are zero
    (``MaybeOverrideSeeds`` of ``core/data/dataset_utils.cc``).
    """
    if "Shuffle" not in place.node.op and place.node.op not in ("SamplingDataset", "RandomDataset"):
        return False
    if "seed" in place.node.attr:  # a queue's, or RandomShuffle's
        return not (attribute(place.node, "seed").i or attribute(place.node, "seed2").i)
    seeds = [integer_input(graph, bodies, place, argument) for argument in ("seed", "seed2")]
    return seeds == [0, 0]
