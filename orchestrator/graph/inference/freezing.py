"""What does a graph look like that computes given tensors from constants and inputs alone?

Rule: what the outputs are computed from stays, under its own names; variables become constants,
what took their references or handles takes values, and batches that came out of a pipeline come in
through placeholders. Nodes that only wait for a writer wait no more. What can't be said without a
variable or a table is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.errors import GraphRefused
from orchestrator.graph.graphdef.edit import shape_attribute, type_attribute
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.tensors import dtype_number
from orchestrator.graph.graphdef.view import Edge, parse_tensor, resolve_alias
from orchestrator.graph.inputs.ports import Cut

LIMIT_BYTES = 2_000_000_000
"""Protobuf takes no larger message; the rest is for the nodes."""
_PLAIN = {
    "RefSwitch": "Switch",
    "RefMerge": "Merge",
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefNextIteration": "NextIteration",
    "RefIdentity": "Identity",
}
_READS = {
    "ReadVariableOp": ("Identity", {"dtype": "T"}),
    "ResourceGather": ("Gather", {"dtype": "Tparams", "Tindices": "Tindices"}),
    "ResourceGatherNd": ("GatherNd", {"dtype": "Tparams", "Tindices": "Tindices"}),
    "VariableShape": ("Shape", {"out_type": "out_type"}),
}
"""What takes a variable's handle: the operation that takes its value, and its attributes."""
_INITIALIZED = frozenset({"IsVariableInitialized", "VarIsInitializedOp"})

_FILLING = ("InitializeTable", "LookupTableImport")
INIT = "tfresume/init_tables"
ValueOf = Callable[[str], TensorProto]
"""The value of a variable, by its node's name."""


@dataclass(frozen=True)
class Frozen:
    """A graph without state.

    Attributes:
        inputs: what users call an input to the tensor that takes it.
        variables: those that became constants.
        init: the operation that fills its lookup tables; empty where it has none.
        assets: constants that name files which fill tables, to those files.
    """

    graph: GraphDef
    inputs: Mapping[str, str]
    variables: tuple[str, ...]
    init: str = ""
    assets: Mapping[str, str] = field(default_factory=dict)


def needed_for(graph: Graph, outputs: Sequence[Edge], cuts: Sequence[Cut] = ()) -> set[str]:
    """The nodes that outputs are computed from, without what only waits for writers."""
    cut = {one.tensor.node for one in cuts}
    harmless: dict[str, bool] = {}
    seen: set[str] = set()
    waiting = [edge.node for edge in outputs]
    while waiting:
        name = waiting.pop()
        if name in seen or name in cut:
            continue
        seen.add(name)
        waiting += [edge.node for edge in graph.view.data[name]]
        waiting += [
            source for source in graph.view.controls[name] if _is_harmless(graph, source, harmless)
        ]
    return seen


def _is_harmless(graph: Graph, name: str, known: dict[str, bool]) -> bool:
    """Whether waiting for a node neither writes nor takes a batch, and checks nothing."""
    if name not in known:
        known[name] = not any(
            graph.writes(each) or graph.traits(each).source or graph.view.op(each) == "Assert"
            for each in graph.view.ancestors([name])
        )
    return known[name]


def freeze(
    graph: Graph,
    outputs: Sequence[Edge],
    cuts: Sequence[Cut],
    value_of: ValueOf,
    *,
    tables: bool = False,
) -> Frozen:
    """A graph that computes ``outputs`` from constants.

    Args:
        cuts: where batches come out of pipelines.
        tables: lookup tables stay, with one operation that fills them from constants and files.

    Raises:
        GraphRefused: an output needs what isn't a constant.
    """
    needed = needed_for(graph, outputs, cuts)
    _refuse_state(graph, needed, tables=tables)
    fillers = _fillers(graph, needed) if tables else []
    needed |= needed_for(graph, [Edge(name, 0) for name in fillers])
    handles = _handles(graph, needed)
    frozen = GraphDef()
    frozen.versions.CopyFrom(graph.meta.graph_def.versions)
    frozen.library.CopyFrom(graph.meta.graph_def.library)
    places = _placeholders(graph, cuts, frozen)
    variables, size = [], 0
    for name, original in graph.view.nodes.items():
        if name not in needed:
            continue
        node = frozen.node.add()
        if graph.traits(name).variable:
            value = value_of(name)
            size += len(value.tensor_content)
            _constant(node, name, value)
            variables.append(name)
        else:
            node.CopyFrom(original)
            _plain(graph, node, needed, places, handles)
        if size > LIMIT_BYTES:
            raise GraphRefused(
                "the variables are too large for one graph of constants (2 GB)",
                remedy="Export them with --to safetensors or --to checkpoint",
            )
    if fillers:
        frozen.node.add(name=INIT, op="NoOp", input=[f"^{name}" for name in fillers])
    inputs = {cut.name: f"{places[cut.tensor].node}:0" for cut in cuts}
    files = dict(_file(graph, name) for name in fillers if "TextFile" in graph.view.op(name))
    return Frozen(frozen, inputs, tuple(variables), INIT if fillers else "", files)


def _fillers(graph: Graph, needed: set[str]) -> list[str]:
    """What fills the lookup tables among ``needed``."""
    return [
        name
        for name in graph.view.nodes
        if graph.view.op(name).startswith(_FILLING) and graph.view.data[name][0].node in needed
    ]


def _file(graph: Graph, filler: str) -> tuple[str, str]:
    """The constant that names the file which fills a table, and that file. Raises GraphRefused."""
    named = resolve_alias(graph.view, graph.view.data[filler][1], frozenset({"Identity"}))
    value = graph.view.nodes[named.node].attr["value"].tensor.string_val
    if graph.view.op(named.node) != "Const" or len(value) != 1:
        raise GraphRefused(
            f"{filler} fills a lookup table from a file whose name the graph computes ({named.node})",
            remedy="Name an output before the look-up with --fetch TENSOR",
        )
    return named.node, value[0].decode("utf-8", "replace")


def _refuse_state(graph: Graph, needed: set[str], *, tables: bool) -> None:
    for name in sorted(needed):
        op = graph.view.op(name)
        if graph.writes(name):
            what = f"{name} ({op}) writes a variable, and the output is computed from what it gives"
            raise GraphRefused(what, remedy="Name another output with --fetch TENSOR")
        if "HashTable" in op and not (tables and op in ("HashTable", "HashTableV2")):
            what = f"{name} ({op}) is a lookup table, which a graph of constants can't hold"
            instead = "Name an output before the look-up with --fetch TENSOR"
            also = "" if "Mutable" in op else "; --to saved-model holds it"
            raise GraphRefused(what, remedy=instead + also)


def _handles(graph: Graph, needed: set[str]) -> dict[str, str]:
    """Nodes that hand a resource variable's handle on, to its type."""
    found: dict[str, str] = {}
    for name in needed:
        if graph.dtype(Edge(name, 0)) == "resource":
            variable = graph.variable_of(name)
            if variable is not None:
                number = graph.view.nodes[variable].attr["dtype"].type
                found[name] = next(dtype for dtype in _types() if dtype_number(dtype) == number)
    return found


def _types() -> tuple[str, ...]:
    return (
        *("float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "bool", "string", "complex64", "complex128"),
    )


def _placeholders(graph: Graph, cuts: Sequence[Cut], frozen: GraphDef) -> dict[Edge, Edge]:
    """A placeholder for each cut tensor; the tensor to what stands for it."""
    places: dict[Edge, Edge] = {}
    for cut in cuts:
        name = f"{cut.tensor.node}_{cut.tensor.port}_input"
        while name in graph.view:
            name += "_"
        node = frozen.node.add(name=name, op="Placeholder")
        node.attr["dtype"].CopyFrom(type_attribute(cut.dtype))
        node.attr["shape"].CopyFrom(shape_attribute(cut.shape))
        places[cut.tensor] = Edge(name, 0)
    return places


def _constant(node: NodeDef, name: str, value: TensorProto) -> None:
    node.name, node.op = name, "Const"
    node.attr["dtype"].type = value.dtype
    node.attr["value"].tensor.CopyFrom(value)


def _plain(
    graph: Graph,
    node: NodeDef,
    needed: set[str],
    places: Mapping[Edge, Edge],
    handles: Mapping[str, str],
) -> None:
    """A copied node without device, colocation, references, handles and what it need not wait for."""
    node.device = ""
    node.attr.pop("_class", None)
    inputs = []
    for text in node.input:
        if text.startswith("^"):
            inputs += [text] if text[1:] in needed else []
        else:
            edge = parse_tensor(text)
            inputs.append(places.get(edge, edge).text)
    del node.input[:]
    node.input.extend(inputs)
    node.op = _PLAIN.get(node.op, node.op)
    if node.op in _INITIALIZED:
        answer = TensorProto(dtype=dtype_number("bool"))
        answer.bool_val.append(True)
        del node.input[:]
        node.attr.clear()
        _constant(node, node.name, answer)
        return
    taken = [edge.node for edge in graph.view.data[node.name] if edge.node in handles]
    if taken:
        _value_for_handle(node, taken[0], handles)


def _value_for_handle(node: NodeDef, handle: str, handles: Mapping[str, str]) -> None:
    dtype = type_attribute(handles[handle])
    if node.op in ALIASES | {"Merge", "Exit", "NextIteration"}:
        node.attr["T"].CopyFrom(dtype)
        return
    if node.op not in _READS or node.attr["batch_dims"].i:
        raise GraphRefused(
            f"{node.name} ({node.op}) takes a variable itself, {handle}, which a constant can't stand for",
            remedy="Name another output with --fetch TENSOR",
        )
    op, renamed = _READS[node.op]
    kept = {new: node.attr[old] for old, new in renamed.items() if old in node.attr}
    shape = node.op == "VariableShape"
    plain = NodeDef(name=node.name, op=op, input=node.input)
    for key, value in kept.items():
        plain.attr[key].CopyFrom(value)
    if shape:
        plain.attr["T"].CopyFrom(dtype)
    node.CopyFrom(plain)
