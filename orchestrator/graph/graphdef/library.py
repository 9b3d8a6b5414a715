"""Which nodes does a graph have, function bodies included, and which function bodies can it reach?

Rule: whatever is said about a graph's nodes is said about the bodies in its function library too;
``every_node`` is the one way to visit them all. A function counts only where something that counts
names it (as an operation type, in an attribute, as a gradient).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

FUNCTION_NESTING_LIMIT = 1000
"""A function value may name functions in its own attributes; deeper nesting than this is no graph
that anybody wrote.
"""


def every_node(graph: GraphDef) -> Iterator[tuple[str, NodeDef]]:
    """All nodes, each with the name of the function whose body it stands in (``""`` for the graph
    itself).
    """
    for node in graph.node:
        yield "", node
    for function in graph.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def label(function: str, node: str) -> str:
    """How messages call a node: its name, and the function whose body it stands in."""
    return f"{node} (in function {function})" if function else node


def functions_named_by(value: AttrValue) -> Iterator[str]:
    """The functions that an attribute's value names, at any depth."""
    pending = [(value, 0)]
    while pending:
        current, depth = pending.pop()
        kind = current.WhichOneof("value")
        if kind == "func":
            functions = [current.func]
        elif kind == "list":
            functions = list(current.list.func)
        else:
            continue
        for function in functions:
            yield function.name
            if depth < FUNCTION_NESTING_LIMIT:
                pending.extend((inner, depth + 1) for inner in function.attr.values())


def functions_called_by(node: NodeDef, known: Iterable[str]) -> Iterator[str]:
    """The functions of the library ``known`` that a node calls, by its operation type or by an
    attribute.
    """
    if node.op in known:
        yield node.op
    for value in node.attr.values():
        yield from (name for name in functions_named_by(value) if name in known)


def reachable_functions(graph: GraphDef, nodes: Iterable[NodeDef]) -> dict[str, FunctionDef]:
    """The functions that ``nodes`` can call, directly, through other functions or as their
    gradients; linear in the graph's size.
    """
    library = {function.signature.name: function for function in graph.library.function}
    gradients = {
        gradient.function_name: gradient.gradient_func for gradient in graph.library.gradient
    }
    reached: dict[str, FunctionDef] = {}
    pending = (
        [name for node in nodes for name in functions_called_by(node, library)] if library else []
    )
    while pending:
        name = pending.pop()
        if name in reached or name not in library:
            continue
        reached[name] = library[name]
        pending.extend(
            called
            for node in library[name].node_def
            for called in functions_called_by(node, library)
        )
        if name in gradients:
            pending.append(gradients[name])
    return reached
