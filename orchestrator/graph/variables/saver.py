"""Under which keys does a graph's saver keep its variables, and what else does it keep?

Rule: read the keys out of the constants that SaveV2 and RestoreV2 (or their V1 ancestors) take,
reached from ``saver_def``; node names are never guessed. A graph without a usable saver answers
with nothing, and variables then go by their own names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.graph.graphdef.constants import constant_strings
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, parse_tensor, resolve_alias
from orchestrator.graph.worker_graph import SaverEntry, Shape

PASSING = frozenset({"Identity", "Reshape", "ReadVariableOp", "Cast"})
"""What stands between a variable and SaveV2, or RestoreV2 and the assignment."""


@dataclass(frozen=True)
class SavedAs:
    """Where a checkpoint keeps one tensor: its key, and which slice of the key's whole tensor it is
    (``""``: all).
    """

    key: str
    slice_spec: str = ""

    @property
    def whole_shape(self) -> Shape:
        """Shape of the whole partitioned variable; None where this isn't a slice."""
        words = self.slice_spec.split()
        return tuple(int(word) for word in words[:-1]) if len(words) > 1 else None


@dataclass(frozen=True)
class SaverKeys:
    """What a saver holds.

    Attributes:
        variables: variable node to its place in a checkpoint.
        entries: everything else.
        found: False where the graph has no usable saver.
    """

    variables: dict[str, SavedAs] = field(default_factory=dict)
    entries: tuple[SaverEntry, ...] = ()
    found: bool = False


def read_saver(graph: Graph) -> SaverKeys:
    """The keys of the graph's own saver."""
    definition = graph.meta.saver_def
    restore, save = _node(definition.restore_op_name), _node(definition.save_tensor_name)
    restored = list(_restored(graph, restore)) if restore in graph.view else []
    saved = dict(_saved(graph, save)) if save in graph.view else {}
    variables: dict[str, SavedAs] = {}
    entries: list[SaverEntry] = []
    for place, edge, consumer in restored:
        variable = _assigned(graph, consumer, edge)
        if variable is not None:
            variables.setdefault(variable, place)
        elif place in saved:
            entries.append(_entry(graph, place, saved[place], edge, consumer))
    # A saver that was cut down to its save part (an inference graph's, say) still tells the keys
    for place, edge in saved.items():
        variable = graph.variable_of(resolve_alias(graph.view, edge, PASSING).node)
        if variable is not None:
            variables.setdefault(variable, place)
    return SaverKeys(variables, tuple(entries), bool(restored or saved))


def _node(tensor: str) -> str:
    return parse_tensor(tensor).node


def _restored(graph: Graph, restore: str) -> Iterator[tuple[SavedAs, Edge, str]]:
    """Every tensor that the restore op reads: its place, the reading op's output, and the node that
    consumes it for good.
    """
    closure = graph.view.ancestors([restore])
    for name in graph.view.nodes:
        if name not in closure:
            continue
        places = _places(graph, name)
        for use in graph.view.uses[name] if places else ():
            if use.port < len(places) and use.node in closure:
                yield from (
                    (places[use.port], Edge(name, use.port), end)
                    for end in _ends(graph, use.node, closure)
                )


def _ends(graph: Graph, name: str, closure: set[str]) -> Iterator[str]:
    waiting, seen = [name], set[str]()
    while waiting:
        current = waiting.pop()
        if current in seen or current not in closure:
            continue
        seen.add(current)
        if graph.view.op(current) in PASSING:
            waiting.extend(use.node for use in graph.view.uses[current])
        else:
            yield current


def _places(graph: Graph, name: str) -> list[SavedAs]:
    op, data = graph.view.op(name), graph.view.data[name]
    if op not in ("RestoreV2", "RestoreSlice", "Restore") or len(data) < 2:
        return []
    keys = constant_strings(graph.view, data[1]) or []
    slices = (constant_strings(graph.view, data[2]) or []) if len(data) > 2 else []
    return _paired(keys, slices)


def _paired(keys: list[str], slices: list[str]) -> list[SavedAs]:
    padded = slices + [""] * (len(keys) - len(slices))
    return [SavedAs(key, spec) for key, spec in zip(keys, padded, strict=False)]


def _saved(graph: Graph, save: str) -> Iterator[tuple[SavedAs, Edge]]:
    closure = graph.view.ancestors([save])
    for name in graph.view.nodes:
        op = graph.view.op(name)
        if name not in closure or op not in ("SaveV2", "SaveSlices", "Save"):
            continue
        # Inputs: file name, keys, slices (not of Save), and then the tensors
        data = graph.view.data[name]
        first = 2 if op == "Save" else 3
        keys = (constant_strings(graph.view, data[1]) or []) if len(data) > first else []
        slices = (
            (constant_strings(graph.view, data[2]) or [])
            if first == 3 and len(data) > first
            else []
        )
        yield from zip(_paired(keys, slices), data[first:], strict=False)


def _assigned(graph: Graph, consumer: str, edge: Edge) -> str | None:
    """The variable that ``consumer`` overwrites with a restored tensor, None where it does
    something else.
    """
    if not graph.traits(consumer).writes or graph.view.op(consumer) not in (
        "Assign",
        "AssignVariableOp",
    ):
        return None
    return graph.variable_of(consumer)


def _entry(graph: Graph, place: SavedAs, saved: Edge, restored: Edge, consumer: str) -> SaverEntry:
    return SaverEntry(
        key=place.key,
        slice_spec=place.slice_spec,
        dtype=graph.dtype(saved) or graph.dtype(restored),
        save_tensor=saved.tensor,
        restore_tensor=restored.tensor,
        restore_op=consumer,
    )
