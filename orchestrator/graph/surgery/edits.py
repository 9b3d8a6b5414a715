"""What does an edit of the graph see, and what does it tell?

Rule: an edit gets a session of work (the editor, what trains, which variables there are) and either
changes the graph and says so in one line, or refuses and names the node that forbids it. New nodes
get names as TensorFlow would give them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from orchestrator.graph.graphdef.edit import Editor, type_attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import Variable


class RefusedEdit(Exception):
    """An edit can't be made; carries the problem."""

    def __init__(self, message: str, remedy: str = "", nodes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problem = Problem("edit-refused", "error", message, remedy, nodes)


@dataclass
class UnderEdit:
    """A graph under edit.

    Attributes:
        targets: the operations that a step runs.
        variables: of the graph before the edits, by name.
        done: what was done, in words.
        grown: variables that have, or may have, more rows than a checkpoint.
    """

    editor: Editor
    ops: OpSet
    targets: tuple[str, ...]
    variables: Mapping[str, Variable]
    done: list[str] = field(default_factory=list)
    grown: set[str] = field(default_factory=set)

    @property
    def graph(self) -> Graph:
        """The graph as it is now."""
        return self.editor.graph(self.ops)

    def closure(self, target: str | None = None) -> set[str]:
        """What a step runs, or one of its targets."""
        return self.graph.view.ancestors([target] if target is not None else self.targets)

    def unique(self, name: str) -> str:
        """``name``, with a number where the graph has a node of that name."""
        found, number = name, 0
        while found in self.editor:
            number += 1
            found = f"{name}_{number}"
        return found

    def add(
        self,
        op: str,
        name: str,
        inputs: Iterable[Edge] = (),
        *,
        controls: Iterable[str] = (),
        attributes: Mapping[str, AttrValue] | None = None,
        like: str = "",
    ) -> Edge:
        """Add a node and give its first output.

        Args:
            like: the node on whose device it stands, and with which it's colocated.
        """
        device = self.editor.node(like).device if like else ""
        full = self.editor.add(
            *(op, self.unique(name), inputs),
            controls=controls,
            attributes=attributes,
            device=device,
            own=False,
        )
        if like:
            self.editor.node(full).attr["_class"].list.s.append(f"loc:@{like}".encode())
        return Edge(full, 0)

    def unary(self, op: str, name: str, *inputs: Edge, dtype: str) -> Edge:
        """Add an operation whose only attribute is its type."""
        return self.add(op, name, inputs, attributes={"T": type_attribute(dtype)})


def matching(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """Those of ``names`` that a pattern fits: as in a shell, or a scope that they stand in."""
    patterns = list(patterns)
    return {
        name
        for name in names
        if any(
            fnmatchcase(name, pattern) or name.startswith(pattern.rstrip("/") + "/")
            for pattern in patterns
        )
    }


def each_fits(flag: str, names: Iterable[str], patterns: Iterable[str]) -> None:
    """Raises RefusedEdit where a pattern fits nothing."""
    names = list(names)
    for pattern in patterns:
        if not matching(names, [pattern]):
            near = get_close_matches(pattern, names, 3, 0.5) or names[:3]
            raise RefusedEdit(
                f"{flag} {pattern}: no variable of the graph fits it",
                f"Name one, a scope, or a pattern such as scope/*; there are {', '.join(near)}",
                (pattern,),
            )


def few(names: Iterable[str]) -> str:
    """The first names, and how many more."""
    found = list(names)
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
