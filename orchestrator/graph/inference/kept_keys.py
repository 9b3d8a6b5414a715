"""Which of a checkpoint's tensors belong to the trained model?

Rule: a key follows the variables that the graph's saver keeps under it (all parts of a partitioned
one together). Lookup tables are kept; the place of an input pipeline isn't. What the graph doesn't
know is kept, and said so. What wasn't the model's before an edit isn't after it, such as slots of
an optimizer that was swapped, which nothing reads or writes any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.errors import CorruptCheckpoint, GraphRefused
from orchestrator.graph.gradients.train_ops import choose_train_ops
from orchestrator.graph.gradients.training_writers import training_updates
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.undo import without_edits
from orchestrator.graph.importing.gc_pause import collector_paused
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.importing.soundness import soundness_problems
from orchestrator.graph.inference.roles import KEPT, WHY, Role, variable_roles
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys, CheckpointTensor
from orchestrator.graph.variables.global_step import find_step
from orchestrator.graph.variables.saver import read_saver
from orchestrator.graph.variables.variables import find_variables

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The key under which TensorFlow 2 keeps which object each tensor belongs to."""


@dataclass(frozen=True)
class KeyRole:
    """What a tensor of a checkpoint is to the model.

    Attributes:
        kept: whether the model needs it.
        role: a role of ``roles``, ``table``, ``pipeline``, ``bookkeeping`` or ``unknown``.
        why: in words that follow the key.
        variables: the graph's variables that are kept under the key.
    """

    kept: bool
    role: str
    why: str
    variables: tuple[str, ...] = ()


def key_roles(meta: MetaGraphDef, keys: CheckpointKeys, name: str) -> dict[str, KeyRole]:
    """Every key of a checkpoint to its role.

    Args:
        name: of the ``.meta``, for messages.

    Raises:
        GraphRefused: the graph's wiring is damaged, so that its training can't be told from its
            model, or its edits' record is.
    """
    with collector_paused():
        now = _of_graph(meta, keys, name)
        try:
            before = without_edits(meta)
        except CorruptCheckpoint as error:
            raise _untold(name, error.message) from error
        if before is meta:
            return now
        earlier = key_roles(before, keys, name)
    return {
        key: earlier[key] if earlier[key].variables and not earlier[key].kept else role
        for key, role in now.items()
    }


def _untold(name: str, why: str) -> GraphRefused:
    return GraphRefused(
        f"{name}: which variables are its optimizer's can't be told: {why}",
        remedy="Export all of them with --all",
    )


def _of_graph(meta: MetaGraphDef, keys: CheckpointKeys, name: str) -> dict[str, KeyRole]:
    """The roles in this very graph, whatever it was edited from."""
    repaired = repair(meta, RunConfig(source=name))
    graph = Graph(repaired.meta, repaired.ops)
    unsound = soundness_problems(repaired.meta, repaired.ops, graph.view, found=repaired.found)
    if unsound:
        raise _untold(name, unsound[0].message)
    return _key_roles(graph, keys)


def expected_keys(meta: MetaGraphDef, name: str) -> CheckpointKeys:
    """What a checkpoint of the graph's saver would hold: its variables' keys, types and whole
    shapes. Empty where the graph's wiring is damaged.

    Args:
        name: of the ``.meta``.
    """
    with collector_paused():
        repaired = repair(meta, RunConfig(source=name))
        graph = Graph(repaired.meta, repaired.ops)
        if soundness_problems(repaired.meta, repaired.ops, graph.view, found=repaired.found):
            return {}
        saver = read_saver(graph)
        found = {
            variable.key: CheckpointTensor(
                variable.dtype, variable.saved_shape if variable.slice_spec else variable.shape
            )
            for variable in find_variables(graph, saver, None, set())
            if variable.key is not None
        }
        return found | {entry.key: CheckpointTensor(entry.dtype, None) for entry in saver.entries}


def _key_roles(graph: Graph, keys: CheckpointKeys) -> dict[str, KeyRole]:
    saver = read_saver(graph)
    variables = find_variables(graph, saver, keys, set())
    trainable = {variable.name for variable in variables if variable.trainable}
    choice = choose_train_ops(graph, trainable, (), training_updates(graph, trainable))
    targets = [name for name, _ in choice.targets] or [one.op for one in choice.candidates]
    step = find_step(graph, targets) if targets else None
    roles = variable_roles(graph, variables, step.variable if step else None)
    named: dict[str, list[str]] = {}
    for variable in variables:
        if variable.key is not None:
            named.setdefault(variable.key, []).append(variable.name)
    pipelines = {entry.key for entry in saver.entries if entry.dtype == "variant"}
    tables = {entry.key for entry in saver.entries} - pipelines
    found: dict[str, KeyRole] = {}
    for key, tensor in keys.items():
        if key in named:
            found[key] = _of_variables(named[key], roles)
        elif key in pipelines or tensor.dtype in ("variant", "resource"):
            found[key] = KeyRole(False, "pipeline", "it is the place of an input pipeline")
        elif key in tables:
            found[key] = KeyRole(True, "table", "a lookup table of the model holds it")
        elif key == OBJECT_GRAPH:
            found[key] = KeyRole(False, "bookkeeping", "TensorFlow 2 keeps in it who owns what")
        else:
            found[key] = KeyRole(True, "unknown", "the graph has no variable for it")
    return found


def _of_variables(names: list[str], roles: Mapping[str, Role]) -> KeyRole:
    """A key with several variables (parts, copies of a tower) is kept for any of them."""
    mine = {roles[name] for name in names}
    best = next(role for role in WHY if role in mine)
    return KeyRole(best in KEPT, best, WHY[best], tuple(names))
