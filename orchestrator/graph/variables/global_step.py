"""Where does a graph count its steps?

Rule: the ``global_step`` collection if the train ops write what it names, in whatever way, else the
integer scalar that they add a constant to in each run and that nothing else writes, else the float
scalar that they add one to (other float sums are no steps). A variable that training doesn't move is
no step. By how much a run moves it is known where every addition is of a constant and stands in no
loop and no conditional; else the value is read after each run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.variable_pb2 import VariableDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import constant_whole_number
from orchestrator.graph.graphdef.flow import read_flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_name
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.worker_graph import StepCounter

ADDITIONS = frozenset({"AssignAdd", "AssignAddVariableOp"})
INTEGERS, FLOATS = ("int32", "int64"), ("float32", "float64")
USUAL_NAMES = ("global_step", "iterations", "step")


@dataclass
class _Moves:
    """How the targets move a scalar.

    Attributes:
        amounts: the constants that are added to it.
        always: all of them are, in each run, once.
        otherwise: something else than adding a constant writes it too.
    """

    amounts: list[int] = field(default_factory=list)
    always: bool = True
    otherwise: bool = False

    @property
    def increment(self) -> int | None:
        """By how much all of them together move it in a run; None where that isn't known."""
        return None if self.otherwise or not self.always else sum(self.amounts)


def find_step(graph: Graph, targets: Iterable[str]) -> StepCounter | None:
    """The step's variable, None where the targets move none."""
    moves = _moves(graph, graph.view.ancestors(targets))
    declared = next((name for name in _declared(graph) if name in moves), None)
    if declared is not None:
        return StepCounter(declared, moves[declared].increment)
    # What something else writes too, as a count of gathered batches that starts anew, is no step
    constant = [name for name, how in moves.items() if not how.otherwise]
    whole = [name for name in constant if _dtype(graph, name) in INTEGERS]
    ones = [name for name in constant if name not in whole and set(moves[name].amounts) == {1}]
    chosen = _usual(whole) or _usual(ones)
    return None if chosen is None else StepCounter(chosen, moves[chosen].increment)


def _moves(graph: Graph, closure: set[str]) -> dict[str, _Moves]:
    """Of each scalar that may count; a function's call counts for all that it writes."""
    flow = read_flow(graph.view)
    found: dict[str, _Moves] = {}
    for name in sorted(graph.writers(closure)):
        for variable in graph.written_by(name):
            if not _counts(graph, variable):
                continue
            moves = found.setdefault(variable, _Moves())
            amount = None
            if graph.view.op(name) in ADDITIONS and len(graph.view.data[name]) > 1:
                amount = constant_whole_number(graph.view, graph.view.data[name][1])
            if amount is None:
                moves.otherwise = True
            else:
                moves.amounts.append(amount)
                moves.always = moves.always and flow.once(name)
    return found


def _usual(names: list[str]) -> str | None:
    for word in USUAL_NAMES:
        for name in names:
            if name.rpartition("/")[2].lower() == word:
                return name
    return names[0] if len(names) == 1 else None


def _counts(graph: Graph, variable: str) -> bool:
    shape = attribute(graph.view.nodes[variable], "shape").shape
    return (
        _dtype(graph, variable) in (*INTEGERS, *FLOATS) and not shape.unknown_rank and not shape.dim
    )


def _dtype(graph: Graph, variable: str) -> str:
    return dtype_name(attribute(graph.view.nodes[variable], "dtype").type)


def _declared(graph: Graph) -> list[str]:
    if "global_step" not in graph.meta.collection_def:
        return []
    collection = graph.meta.collection_def["global_step"]
    names = [parse_tensor(name).node for name in collection.node_list.value]
    for value in collection.bytes_list.value:
        try:
            names.append(parse_tensor(VariableDef.FromString(value).variable_name).node)
        except DecodeError:
            continue
    return [
        variable
        for name in names
        if name in graph.view and (variable := graph.variable_of(name)) is not None
    ]
