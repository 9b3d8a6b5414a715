"""How is a graph cut so that a group of workers can train it as one?

Rule: gradients first, then every other value that differs between ranks and ends in a variable;
then the barrier. Each cut becomes a seam, an Identity that the exchange is put in front of. If
anything would still reach a variable around the seams, the graph isn't cut at all and says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.graph.gradients.barrier import guard, insert_barrier
from orchestrator.graph.gradients.detaching import Detachment, detach
from orchestrator.graph.gradients.gradient_tensors import (
    GradientCut,
    candidates_of,
    frontier,
    optimizer_cuts,
)
from orchestrator.graph.gradients.leaving_flow import Enclosed, outside
from orchestrator.graph.gradients.non_gradient_updates import update_cuts
from orchestrator.graph.gradients.rank_local import (
    RankLocal,
    rank_local,
    rank_local_sources,
    whole_number_sources,
)
from orchestrator.graph.gradients.seam_writer import SeamWriter
from orchestrator.graph.gradients.split_targets import separate_targets
from orchestrator.graph.gradients.standing_between import bent_before
from orchestrator.graph.gradients.table_rows import Unpaired
from orchestrator.graph.gradients.training_writers import ASSIGNMENTS
from orchestrator.graph.gradients.unordered_values import let_go
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.flow import Flow, read_flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import Edge, Use
from orchestrator.graph.repetition.loss_scale import batch_scales
from orchestrator.graph.repetition.update_scale import UpdateScales
from orchestrator.graph.worker_graph import (
    InputPort,
    TrainTarget,
)

SCOPE_RULE, OPTIMIZER_RULE, SCATTER_RULE, NO_RULE = (
    "gradients scope",
    "optimizer inputs",
    "scatter updates",
    "none",
)


class _Refused(Exception):
    """The graph can't be cut; never seen outside of this file."""


@dataclass(frozen=True)
class CutGraph:
    """What the cuts of a graph are.

    Attributes:
        targets: with their seams and barriers; without where it's refused.
        rule: which rule found the gradients.
        refused: why this graph runs on one worker only; empty where it's cut.
    """

    targets: tuple[TrainTarget, ...]
    rule: str
    refused: str = ""


@dataclass(frozen=True)
class _Found:
    gradients: tuple[GradientCut, ...]
    rule: str
    local: RankLocal
    rewired: frozenset[Use]
    """Inputs that get an equal value already."""
    beyond: set[str]
    """The operations after all gradients."""
    settings: list[tuple[Edge, Use]]
    """The inputs of writers that follow from fed whole numbers, which are alike on all ranks unless
    somebody feeds them by batch.
    """
    bent: dict[Use, str]
    """The inputs of writers that take gradients through what isn't linear, with what is said where
    they can't be exchanged before that.
    """


def cut_graph(
    editor: Editor,
    ops: OpSet,
    targets: Iterable[TrainTarget],
    ports: Iterable[InputPort],
    constants: set[str],
) -> CutGraph:
    """Cut the gradients and other updates of all targets, in the editor's graph.

    Where it's refused the editor's graph is left half cut and not fit for use.

    Args:
        ports: what is fed.
        constants: names of fed tensors that hold the same value on all ranks.
    """
    targets, ports = tuple(targets), tuple(ports)
    done: list[TrainTarget] = []
    rules: list[str] = []
    try:
        for number, target in enumerate(separate_targets(editor, ops, targets)):
            cut, rule = _cut_target(editor, ops, target, number, ports, constants)
            _verify(editor, ops, cut)
            done.append(cut)
            rules.append(rule)
    except (_Refused, Enclosed, Unpaired) as why:
        return CutGraph(targets, NO_RULE, str(why))
    return CutGraph(tuple(done), next((rule for rule in rules if rule != NO_RULE), NO_RULE))


def guard_graph(
    editor: Editor, ops: OpSet, targets: Iterable[TrainTarget]
) -> tuple[Editor, tuple[TrainTarget, ...]]:
    """Let each target's writers wait until all else has been computed, where nothing is exchanged:
    what fails in a step fails before anything is written.

    Returns:
        the editor of the guarded graph, and its targets; what was given, where a barrier would
        make a cycle.
    """
    # On a copy: a cycle shows only in the guarded graph, and a graph that can't be guarded still
    # trains as it is
    targets, guarded = tuple(targets), Editor(editor.meta)
    apart = separate_targets(guarded, ops, targets)
    for number, target in enumerate(apart):
        guard(guarded, guarded.graph(ops), target.op, number)
    if guarded.graph(ops).view.order()[1]:
        return editor, targets
    return guarded, apart


def _cut_target(
    editor: Editor,
    ops: OpSet,
    target: TrainTarget,
    number: int,
    ports: tuple[InputPort, ...],
    constants: set[str],
) -> tuple[TrainTarget, str]:
    graph = editor.graph(ops)
    flow = read_flow(graph.view)
    found = _find_gradients(graph, flow, target.op, ports, constants)
    taken = [edge for edge, _ in (*found.local.writes, *found.settings)]
    if let_go(graph, flow, target.op, taken).carry_out(editor):
        graph = editor.graph(ops)
        flow = read_flow(graph.view)
    scaled = batch_scales(graph, found.gradients, found.beyond, ports, constants)
    gradients = [cut for cut, _ in scaled]
    _require_once(gradients, flow)
    closure = graph.view.ancestors([target.op])
    # Done before anything else is decided: the edges that go would make values look as if they stood
    # behind a writer
    detached = detach(graph, closure, _sources(gradients), flow)
    graph = _without_waiting(editor, ops, graph, detached)
    closure = graph.view.ancestors([target.op, *detached.hung])
    judge = UpdateScales(graph, ports, constants, taken).of
    above = _sources(gradients)
    updates = update_cuts(
        graph, closure, found.local, found.settings, flow, found.rewired, above, judge, found.bent
    )
    if updates.refused:
        raise _Refused(updates.refused)
    moved = detach(graph, closure, {edge.node for edge in updates.uses}, flow)
    graph = _without_waiting(editor, ops, graph, moved)
    seams = SeamWriter(editor, graph, number)
    seams.gradients(scaled)
    seams.updates(updates)
    if not seams.nodes:  # nothing differs between ranks, as where a target only counts steps
        return target, found.rule
    above = graph.view.ancestors(_sources(gradients) | {edge.node for edge in updates.uses})
    barrier = insert_barrier(
        editor, graph, target.op, number, seams.nodes, (detached, moved), flow, seams.uses, above
    )
    return replace(
        target, dense=tuple(seams.dense), sparse=tuple(seams.sparse), barrier=barrier
    ), found.rule


def _without_waiting(editor: Editor, ops: OpSet, graph: Graph, detachment: Detachment) -> Graph:
    """The graph in which nothing to be exchanged waits for a writer."""
    if detachment.refused:
        raise _Refused(detachment.refused)
    if not detachment.dropped:
        return graph
    for consumer, sources in detachment.dropped.items():
        editor.drop_controls(consumer, sources)
    return editor.graph(ops)


def _find_gradients(
    graph: Graph, flow: Flow, target: str, ports: tuple[InputPort, ...], constants: set[str]
) -> _Found:
    closure = graph.view.ancestors([target])
    sources = rank_local_sources(graph, closure, ports, constants)
    front = frontier(graph, closure)
    if not all(flow.once(edge.node) for edge in front.uses):
        differing = rank_local(graph, closure, sources, {}, flow.depths).nodes
        front = replace(front, uses=outside(graph, flow, front.uses, front.beyond, differing))
    candidates = candidates_of(graph, front)
    local = rank_local(graph, closure, sources, _seams(candidates), flow.depths)
    cuts = list(candidates)
    rule = SCOPE_RULE if cuts else NO_RULE
    # What still reaches an optimizer although every scope's gradients are cut was made without
    # tf.gradients, by hand or by an operation of its own
    more: list[GradientCut] = []
    bent: dict[Use, str] = {}
    for cut in optimizer_cuts(graph, local.writes, front.beyond):
        reason = bent_before(graph, local.nodes, cut.values, cut.uses[0].node)
        if reason and cut.indices is not None:
            raise _Refused(reason)
        if reason:
            bent[cut.uses[0]] = reason
        else:
            more.append(cut)
    # Gradient descent that is written as an assignment names no gradient input: its value becomes
    # an update to exchange, which is right only if nothing bends it on the way
    for edge, use in local.writes:
        if not front.uses and graph.view.op(use.node) in ASSIGNMENTS:
            reason = bent_before(graph, local.nodes, edge, use.node)
            if reason:
                bent[use] = reason
    if more:
        cuts += more
        local = rank_local(graph, closure, sources, _seams(cuts), flow.depths)
        optimizers = any(graph.traits(use.node).update for cut in more for use in cut.uses)
        rule = rule if rule != NO_RULE else OPTIMIZER_RULE if optimizers else SCATTER_RULE
    rewired = frozenset(use for uses in _seams(cuts).values() for use in uses)
    # The same once more as if fed whole numbers differed: what that adds are settings, exchanged
    # where it costs nothing, so that feeding them by batch after all does no harm
    fed = sources | whole_number_sources(closure, ports, constants)
    everything = rank_local(graph, closure, fed, _seams(cuts), flow.depths).writes
    settings = [write for write in everything if write not in set(local.writes)]
    rule = OPTIMIZER_RULE if bent and rule == NO_RULE else rule
    return _Found(tuple(cuts), rule, local, rewired, front.beyond, settings, bent)


def _seams(cuts: Iterable[GradientCut]) -> dict[Edge, set[Use]]:
    seams: dict[Edge, set[Use]] = {}
    for cut in cuts:
        seams.setdefault(cut.values, set()).update(cut.uses)
        if cut.indices is not None:
            seams.setdefault(cut.indices, set()).update(cut.index_uses)
    return seams


def _sources(cuts: Iterable[GradientCut]) -> set[str]:
    return {edge.node for cut in cuts for edge in (cut.values, cut.indices) if edge is not None}


def _require_once(cuts: Iterable[GradientCut], flow: Flow) -> None:
    for name in sorted(_sources(cuts)):
        if not flow.once(name):
            raise _Refused(
                f"the gradient {name} is computed inside a loop or a conditional, where workers may not meet"
            )


def _verify(editor: Editor, ops: OpSet, target: TrainTarget) -> None:
    """The last word: no cycle, and no writer before a seam.

    Asked of the graph that is there after all edits, whatever led to them: a writer before a seam
    would run in the phase that computes, and a step that fails afterwards would be half done.
    """
    seams = [dense.node for dense in target.dense]
    seams.extend(
        name for sparse in target.sparse for name in (sparse.values_node, sparse.indices_node)
    )
    if not seams:
        return
    graph = editor.graph(ops)
    cyclic = graph.view.order()[1]
    if cyclic:
        raise _Refused(f"cutting it would make a cycle through {cyclic[0]}")
    writers = graph.writers(graph.view.ancestors(seams))
    if writers:
        raise _Refused(f"{writers[0]} writes state before all gradients are known")
