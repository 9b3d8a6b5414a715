"""Which graph is trained, once the edits are made that the user asked for?

Rule: tables grow first, for good: leaving the flag out doesn't take rows away. Then freeze, swap,
clip, set, in this order, so that what is frozen gets no new slots, and what the other edits add can
be set; then what the first start takes of the checkpoint. All refusals at once. Without a flag the
graph is handed on as it is; where another run edited it, with an empty record of its own on top, so
that what undoes this run's edits leaves that one's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.gradients.train_ops import choose_train_ops
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.undo import COLLECTION, with_undo
from orchestrator.graph.importing.import_scope import without_scope
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.problem import Problem
from orchestrator.graph.surgery.clipping import clip_gradients
from orchestrator.graph.surgery.constants import set_tensor
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit
from orchestrator.graph.surgery.first_start import asks, first_loading, seen_through
from orchestrator.graph.surgery.freezing import freeze_variables
from orchestrator.graph.surgery.growing import grow_table
from orchestrator.graph.surgery.swapping import swap_optimizer
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.variables.saver import read_saver
from orchestrator.graph.variables.variables import find_variables


@dataclass(frozen=True)
class Operated:
    """A graph after its edits.

    Attributes:
        meta: the edited copy, or the graph itself.
        edits: each edit of the graph in words.
        taken: what the first start takes of the checkpoint, in words.
        problems: refusals, and the repairs that came before.
        repairs: what had to be repaired first.
        loading: how the source's checkpoint is read at the first start; ``checkpoint`` is what it
            holds, seen like that.
    """

    meta: MetaGraphDef
    edits: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    repairs: tuple[str, ...] = ()
    loading: Loading = AS_SAVED
    checkpoint: CheckpointKeys | None = None

    @property
    def done(self) -> tuple[str, ...]:
        """All of it, in the order in which it's done."""
        return (*self.edits, *self.taken)


def operate(
    meta: MetaGraphDef, config: RunConfig, checkpoint: CheckpointKeys | None = None
) -> Operated:
    """Edit ``meta``, which isn't changed itself, as the configuration asks.

    Args:
        checkpoint: what the source's checkpoint holds; None where that isn't known.
    """
    edits = edits_of(config)
    if not edits and not config.grow and not asks(config):
        return Operated(_recorded(meta, meta), checkpoint=checkpoint)
    config = without_scope(config)
    repaired = repair(meta, config)
    work = _work(Editor(repaired.meta), repaired.ops, config)
    if not work.targets:  # the plan says why nothing trains
        return Operated(meta, checkpoint=checkpoint)
    problems = _made(work, [partial(_grown, name, rows) for name, rows in config.grow.items()])
    base, grown = work.editor.meta if work.done else repaired.meta, frozenset(work.grown)
    if work.done:
        work = replace(_work(Editor(base), repaired.ops, config), done=work.done)
    problems += _made(work, edits)
    loading = AS_SAVED
    after = _work(work.editor, repaired.ops, config, checkpoint)
    try:
        loading = first_loading(after, after.variables, config, checkpoint)
    except RefusedEdit as refused:
        problems.append(refused.problem)
    loading = replace(loading, grown=grown) if grown else loading
    edited = _recorded(base, work.editor.meta if edits else base)
    if problems:
        edited = _recorded(repaired.meta, repaired.meta)
    told = [
        Problem(
            "repaired", "warning", said, "Nothing to do: repaired in memory and in what is saved"
        )
        for said in repaired.done
    ]
    seen = checkpoint
    if checkpoint is not None:
        seen = seen_through(loading, checkpoint, after.variables)
    done = ((), ()) if problems else (tuple(work.done), tuple(after.done))
    return Operated(edited, *done, (*problems, *told), repaired.done, loading, seen)


def _recorded(before: MetaGraphDef, after: MetaGraphDef) -> MetaGraphDef:
    """``after`` with this run's record, whether it edited ``before`` or not; ``after`` itself where
    nobody ever edited it.
    """
    if after is before and COLLECTION not in before.collection_def:
        return after
    return with_undo(before, after)


def _made(work: UnderEdit, edits: list[Callable[[UnderEdit], None]]) -> list[Problem]:
    """Make the edits; the refusals."""
    problems = []
    for edit in edits:
        try:
            edit(work)
        except RefusedEdit as refused:
            problems.append(refused.problem)
    return problems


def _grown(name: str, rows: int, work: UnderEdit) -> None:
    grow_table(work, name, rows)


def edits_of(config: RunConfig) -> list[Callable[[UnderEdit], None]]:
    """The edits that a configuration asks for and that can be undone, in the order in which they're
    made.
    """
    found: list[Callable[[UnderEdit], None]] = []
    if config.freeze:
        found.append(lambda work: freeze_variables(work, config.freeze))
    optimizer = config.swap_optimizer
    if optimizer is not None:
        found.append(lambda work: swap_optimizer(work, optimizer))
    limit = config.clip_global_norm
    if limit is not None:
        found.append(lambda work: clip_gradients(work, limit))
    for name, text in config.set.items():
        found.append(lambda work, name=name, text=text: set_tensor(work, name, text))  # type: ignore[misc]
    return found


def _work(
    editor: Editor,
    ops: OpSet,
    config: RunConfig,
    checkpoint: CheckpointKeys | None = None,
) -> UnderEdit:
    graph = editor.graph(ops)
    variables = find_variables(graph, read_saver(graph), checkpoint, set())
    trainable = {one.name for one in variables if one.trainable}
    choice = choose_train_ops(graph, trainable, config.train_op)
    targets = tuple(target for target, _ in choice.targets if target in graph.view)
    return UnderEdit(editor, ops, targets, {one.name: one for one in variables})
