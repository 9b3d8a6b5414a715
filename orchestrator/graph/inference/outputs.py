"""Which tensors would a user call the model's prediction?

Rule: what is computed from features and weights and not from labels. A feature is an input that
meets a weight itself (a product, a look-up); a label is one that never does. The prediction stands
where labels come in: what the loss compares with them, before that its probabilities and its
classes. Without labels it is where computations end, what is compared with the features again, or what other
weights take as they take an input: a generator's sample, beside what is real. What was
taught by its own labels, as a decoder is that reads the words which it's to say, stands behind what
does without them. Each answer says why; names don't count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.gradients.training_writers import saver_nodes
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, parse_tensor, resolve_alias
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.importing.soundness import soundness_problems
from orchestrator.graph.inference.made_of import HANDING, SHAPES, MadeOf, made_of
from orchestrator.graph.inspect_report import OutputEntry
from orchestrator.graph.variables.saver import read_saver
from orchestrator.graph.variables.variables import find_variables

_SAME_VALUE = frozenset(
    {"Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "CheckNumerics", "Cast"}
)
_PROBABILITIES = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
_CLASSES = frozenset({"ArgMax", "TopKV2", "Round", "Greater"})
_TOWARDS_A_LOSS = frozenset(
    {"Log", "Neg", "ClipByValue", "Minimum", "Maximum", "Add", "AddV2", "Sub", "RealDiv", "Div"}
)
"""What stands between hand-written probabilities and the labels that they're multiplied with."""
_LOGARITHMS = frozenset({"Log", "Log1p", "LogSoftmax"})
_DIVISIONS = frozenset({"RealDiv", "Div"})
"""By which probabilities are divided by their own sum once more."""
_SCORES = {
    "signature": 200,
    "probabilities": 100,
    "logits": 90,
    "value": 80,
    "class": 70,
    "end": 30,
}


def rank_outputs(graph: Graph, trainable: Iterable[str]) -> tuple[OutputEntry, ...]:
    """The tensors that may be the prediction, the likeliest first.

    Args:
        trainable: the trained variables.
    """
    trained = frozenset(trainable)
    flow = made_of(graph, trained)
    found: dict[str, OutputEntry] = {}
    compared = [*_cross_entropies(flow), *_compared(flow), *_judged(flow, trained)]
    for entry in (*_signatures(graph), *compared, *_ends(flow, alone=not compared)):
        before = found.get(entry.name)
        if before is None or _SCORES[before.kind] < _SCORES[entry.kind]:
            found[entry.name] = entry
    order = {name: number for number, name in enumerate(graph.view.nodes)}
    taught = _taught(flow)

    def later(entry: OutputEntry) -> tuple[bool, int, int]:
        node = parse_tensor(entry.name).node
        needs_labels = bool(flow.sources.get(node, 0) & taught)
        # Logarithms of probabilities are for the loss
        score = _SCORES[entry.kind] - (graph.view.op(node) == "LogSoftmax")
        return needs_labels and entry.kind != "signature", -score, -order[node]

    return tuple(sorted(found.values(), key=later))


def predictions(meta: MetaGraphDef, name: str) -> tuple[OutputEntry, ...]:
    """``rank_outputs`` of a graph as it was saved; empty where its wiring is damaged.

    Args:
        name: of the ``.meta``.
    """
    repaired = repair(meta, RunConfig(source=name))
    graph = Graph(repaired.meta, repaired.ops)
    if soundness_problems(repaired.meta, repaired.ops, graph.view, found=repaired.found):
        return ()
    variables = find_variables(graph, read_saver(graph), None, set())
    return rank_outputs(graph, (variable.name for variable in variables if variable.trainable))


def _signatures(graph: Graph) -> Iterator[OutputEntry]:
    for name, signature in sorted(graph.meta.signature_def.items()):
        for key, info in sorted(signature.outputs.items()):
            if parse_tensor(info.name).node in graph.view:
                edge = parse_tensor(info.name)
                why = f"the graph's signature {name!r} names it as {key!r}"
                yield OutputEntry(edge.tensor, graph.dtype(edge), "signature", why)


def _cross_entropies(flow: MadeOf) -> Iterator[OutputEntry]:
    """What the operations that are made for it take as logits."""
    graph = flow.graph
    for name, op in graph.view.ops.items():
        edges = graph.view.data[name]
        if op.endswith("CrossEntropyWithLogits") and flow.weights.get(edges[0].node, False):
            yield from _around(flow, edges[0], name, op)


def _taught(flow: MadeOf) -> int:
    """The inputs that a cross entropy takes as labels of what was computed from them, a bit for
    each, where another feature is in it too: not those of an autoencoder.
    """
    graph, found = flow.graph, 0
    for name, op in graph.view.ops.items():
        if op.endswith("CrossEntropyWithLogits"):
            logits, labels = (flow.sources.get(edge.node, 0) for edge in graph.view.data[name][:2])
            found |= logits & labels if logits & ~labels & flow.features else 0
    return found


def _compared(flow: MadeOf) -> Iterator[OutputEntry]:
    """What meets labels, or the features once more, and what is made of it for people."""
    graph = flow.graph
    for name, op in graph.view.ops.items():
        if flow.labels and not flow.sources.get(name, 0) & flow.labels:
            continue
        edges = graph.view.data[name]
        for edge in edges:
            others = [other for other in edges if other != edge]
            if (
                flow.computed(edge.node)
                and _meets_an_input(flow, name, others)
                and not _scales(flow, op, edge)
            ):
                yield from _around(flow, edge, name, op)


def _meets_an_input(flow: MadeOf, name: str, others: list[Edge]) -> bool:
    if name not in flow.late:
        return False
    if flow.labels:
        return any(
            _of_labels(flow, other) or flow.graph.traits(other.node).source for other in others
        )
    return any(
        not flow.weights.get(other.node, False) and flow.sources.get(other.node, 0)
        for other in others
    )


def _judged(flow: MadeOf, trainable: frozenset[str]) -> Iterator[OutputEntry]:
    """What is computed without a weight and meets it where an input meets it elsewhere."""
    graph = flow.graph
    taken: dict[str, list[Edge]] = {}
    real: dict[str, str] = {}
    for name in graph.view.nodes:
        if graph.gradient_scope(name) is not None or graph.writes(name):
            continue
        if graph.view.op(name) in HANDING:
            continue
        edges = graph.view.data[name]
        held = {graph.variable_of(edge.node) or "" for edge in edges}
        for weight in sorted(held & trainable):
            for edge in edges:
                if flow.computed(edge.node):
                    taken.setdefault(weight, []).append(edge)
                elif flow.sources.get(edge.node, 0) & flow.features and not flow.weights.get(
                    edge.node
                ):
                    real.setdefault(weight, edge.tensor)
    for weight in sorted(real.keys() & taken.keys()):
        for edge in taken[weight]:
            value = resolve_alias(graph.view, edge, _SAME_VALUE)
            before = graph.view.ancestors([value.node], control=False)
            if weight not in before and graph.view.op(value.node) not in HANDING:
                why = f"{weight} takes it as it takes {real[weight]}"
                yield _entry(graph, value, "value", why)


def _scales(flow: MadeOf, op: str, edge: Edge) -> bool:
    """Whether the model's own input is only scaled, as batch norm scales it: a product with labels
    compares, and so does one of the input with the logarithm of what it's rebuilt as.
    """
    value = resolve_alias(flow.graph.view, edge, _SAME_VALUE)
    return not flow.labels and op == "Mul" and flow.graph.view.op(value.node) not in _LOGARITHMS


def _of_labels(flow: MadeOf, edge: Edge) -> bool:
    return bool(flow.sources.get(edge.node, 0) & flow.labels)


def _around(flow: MadeOf, edge: Edge, taker: str, op: str) -> Iterator[OutputEntry]:
    graph = flow.graph
    against = "labels" if flow.labels or "CrossEntropy" in op else "its own input"
    value = resolve_alias(graph.view, edge, _SAME_VALUE)
    made = _probabilities_behind(flow, value)
    if made is not None:
        yield _entry(graph, made, "probabilities", f"{taker} compares it with {against}")
        value = graph.view.data[made.node][0]
    elif graph.view.op(value.node) in _CLASSES:
        yield _entry(graph, value, "class", f"{taker} compares it with {against}")
        return
    else:
        kind = "logits" if "CrossEntropy" in op else "value"
        yield _entry(graph, value, kind, f"{taker} compares it with {against}")
    for use in graph.view.uses[value.node]:
        made = Edge(use.node, 0)
        if use.port == value.port and flow.weights.get(use.node, False):
            if graph.view.op(use.node) in _PROBABILITIES:
                why = f"made of {value.tensor}, which {taker} compares with {against}"
                yield _entry(graph, made, "probabilities", why)
            elif graph.view.op(use.node) in _CLASSES:
                why = f"picked from {value.tensor}, which {taker} compares with {against}"
                yield _entry(graph, made, "class", why)


def _probabilities_behind(flow: MadeOf, value: Edge) -> Edge | None:
    """The softmax or sigmoid that a hand-written loss takes the logarithm of."""
    view = flow.graph.view
    for _ in range(20):
        if view.op(value.node) in _PROBABILITIES:
            return value
        if view.op(value.node) not in _TOWARDS_A_LOSS | _SAME_VALUE:
            return None
        computed = [edge for edge in view.data[value.node] if flow.computed(edge.node)]
        if not computed or (len(computed) > 1 and view.op(value.node) not in _DIVISIONS):
            return None
        value = computed[0]
    return None


def _ends(flow: MadeOf, *, alone: bool) -> Iterator[OutputEntry]:
    """Where computations without labels end; where they're all there is, their probabilities too."""
    graph = flow.graph
    saving = saver_nodes(graph)
    for name in flow.late:
        if not flow.computed(name) or name in saving or _is_summary(graph.view.op(name)):
            continue
        if alone and graph.view.op(name) in _PROBABILITIES:
            why = "no weight comes in after it"
            yield _entry(graph, Edge(name, 0), "probabilities", why)
        takers = [
            use.node
            for use in graph.view.uses[name]
            if use.node not in saving
            and not _is_summary(graph.view.op(use.node))
            and graph.view.op(use.node) not in SHAPES
            and graph.gradient_scope(use.node) is None
        ]
        if not takers and graph.dtype(Edge(name, 0)) not in ("", "string", "variant", "resource"):
            yield _entry(graph, Edge(name, 0), "end", "it is where a computation ends")


def _is_summary(op: str) -> bool:
    return op.endswith(("Summary", "SummaryV2"))


def _entry(graph: Graph, edge: Edge, kind: str, why: str) -> OutputEntry:
    return OutputEntry(edge.tensor, graph.dtype(edge), kind, why)
