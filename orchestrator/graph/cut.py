"""How is a graph cut so that a group of workers can train it as one?

Rule: gradients first, then every other value that differs between ranks and ends in a variable;
then the barrier. Each cut becomes a seam, an Identity that the exchange is put in front of. If
anything would still reach a variable around the seams, the graph isn't cut at all and says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.graph.gradients.barrier import detach, hang
from orchestrator.graph.gradients.gradient_tensors import (
    Frontier,
    GradientCut,
    describe_cut,
    frontier,
    optimizer_cuts,
)
from orchestrator.graph.gradients.leading_out import led_in, led_out
from orchestrator.graph.gradients.non_gradient_updates import UpdateCuts, update_cuts
from orchestrator.graph.gradients.rank_local import RankLocal, rank_local, rank_local_sources
from orchestrator.graph.gradients.split_targets import separate_targets
from orchestrator.graph.gradients.towers import averages
from orchestrator.graph.graphdef.edit import Editor, identity, type_attribute
from orchestrator.graph.graphdef.flow import Flow, read_flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.tensors import COMPLEX, FLOATS, INTEGERS
from orchestrator.graph.graphdef.view import Edge, Use
from orchestrator.graph.repetition.loss_scale import batch_scales
from orchestrator.graph.repetition.update_scale import UpdateScales
from orchestrator.graph.worker_graph import (
    BatchScale,
    DenseSeam,
    InputPort,
    SparseSeam,
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
    sewn: frozenset[Use]
    """Inputs that get an equal value already."""
    beyond: set[str]
    """The operations after all gradients."""


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
    except _Refused as why:
        return CutGraph(targets, NO_RULE, str(why))
    return CutGraph(tuple(done), next((rule for rule in rules if rule != NO_RULE), NO_RULE))


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
    scaled = batch_scales(graph, found.gradients, found.beyond, ports, constants)
    gradients = [cut for cut, _ in scaled]
    _require_once(gradients, flow)
    closure = graph.view.ancestors([target.op])
    detachment = detach(graph, closure, _sources(gradients), flow)
    if detachment.refused:
        raise _Refused(detachment.refused)
    if detachment.dropped:
        for consumer, sources in detachment.dropped.items():
            editor.drop_controls(consumer, sources)
        graph = editor.graph(ops)
        closure = graph.view.ancestors([target.op, *detachment.hung])
    judge = UpdateScales(graph, ports, constants, (edge for edge, _ in found.local.writes)).of
    above = _sources(gradients)
    updates = update_cuts(graph, closure, found.local, flow, found.sewn, above, judge)
    if updates.refused:
        raise _Refused(updates.refused)
    sewn = _Seamstress(editor, graph, number)
    sewn.gradients(scaled)
    sewn.updates(updates)
    if not sewn.nodes:
        return target, found.rule
    barrier = hang(editor, graph, target.op, number, sewn.nodes, detachment, flow, sewn.uses)
    return replace(
        target, dense=tuple(sewn.dense), sparse=tuple(sewn.sparse), barrier=barrier
    ), found.rule


def _find_gradients(
    graph: Graph, flow: Flow, target: str, ports: tuple[InputPort, ...], constants: set[str]
) -> _Found:
    closure = graph.view.ancestors([target])
    sources = rank_local_sources(graph, closure, ports, constants)
    front = frontier(graph, closure)
    candidates = _candidates(graph, front)
    local = rank_local(graph, closure, sources, _seams(candidates), flow.depths)
    cuts = list(candidates)
    rule = SCOPE_RULE if cuts else NO_RULE
    more = optimizer_cuts(graph, local.writes, front.beyond)
    if more:
        cuts += more
        local = rank_local(graph, closure, sources, _seams(cuts), flow.depths)
        optimizers = any(graph.traits(use.node).update for cut in more for use in cut.uses)
        rule = rule if rule != NO_RULE else OPTIMIZER_RULE if optimizers else SCATTER_RULE
    sewn = frozenset(use for uses in _seams(cuts).values() for use in uses)
    return _Found(tuple(cuts), rule, local, sewn, front.beyond)


def _candidates(graph: Graph, front: Frontier) -> list[GradientCut]:
    """Every gradient of the frontier, or the towers' average of it; one that no batch reaches is
    exchanged too.

    Machines may differ in its last bit.
    """
    floats = {
        edge: uses for edge, uses in front.uses.items() if graph.dtype(edge) in FLOATS | COMPLEX
    }
    merged = averages(graph, floats, front.beyond)
    cuts = [
        describe_cut(graph, edge, tuple(uses), front.beyond)
        for edge, uses in floats.items()
        if edge not in merged
    ]
    for end in sorted(set(merged.values())):
        uses = tuple(
            use
            for use in graph.view.uses[end.node]
            if use.port == end.port and use.node in front.beyond
        )
        cuts.append(describe_cut(graph, end, uses, front.beyond))
    return cuts


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


class _Seamstress:
    """Puts Identity nodes into the editor's graph and remembers what each one is."""

    def __init__(self, editor: Editor, graph: Graph, target: int) -> None:
        self._editor = editor
        self._graph = graph
        self._target = target
        self.nodes: list[str] = []
        self.uses: set[Use] = set()
        self.dense: list[DenseSeam] = []
        self.sparse: list[SparseSeam] = []

    def gradients(self, cuts: Iterable[tuple[GradientCut, BatchScale]]) -> None:
        for cut, scale in cuts:
            dtype = self._graph.dtype(cut.values)
            if cut.indices is None:
                node = self._sew("", cut.values, dtype, cut.uses)
                self.dense.append(DenseSeam(node, dtype, cut.shape, scale=scale))
                continue
            index_dtype = self._graph.dtype(cut.indices)
            values = self._sew("/values", cut.values, dtype, cut.uses)
            indices = self._sew("/indices", cut.indices, index_dtype, cut.index_uses)
            self.sparse.append(SparseSeam(values, indices, dtype, index_dtype, cut.shape, scale))

    def updates(self, cuts: UpdateCuts) -> None:
        for edge, inputs in sorted(cuts.uses.items()):
            dtype = self._graph.dtype(edge)
            branches = cuts.branches.get(edge, ())
            name = f"branch/{self._target}/{len(self.nodes)}"
            outside = led_out(self._editor, name, edge, dtype, branches)
            if dtype in INTEGERS:
                result = self._count(outside, dtype, cuts.scales[edge])
            else:
                result = Edge(self._sew("", outside, dtype, ()), 0)
                self.dense.append(DenseSeam(result.node, dtype, None, "update", cuts.scales[edge]))
            self._give(led_in(self._editor, name, result, dtype, branches), inputs)

    def _sew(self, kind: str, edge: Edge, dtype: str, uses: Iterable[Use]) -> str:
        node = identity(self._editor, f"seam/{self._target}/{len(self.nodes)}{kind}", edge, dtype)
        self._give(Edge(node, 0), uses)
        self.nodes.append(node)
        return node

    def _give(self, edge: Edge, uses: Iterable[Use]) -> None:
        for use in uses:
            self._editor.set_input(use.node, use.slot, edge)
            self.uses.add(use)

    def _count(self, edge: Edge, dtype: str, scale: BatchScale) -> Edge:
        """Exchange whole numbers in float64, exact up to 2**53, and round."""
        name = f"count/{self._target}/{len(self.nodes)}"
        wide = self._cast(f"{name}/wide", edge, dtype, "float64")
        node = self._sew("", Edge(wide, 0), "float64", ())
        attributes = {"T": type_attribute("float64")}
        rounded = self._editor.add(
            "Rint", f"{name}/rounded", [Edge(node, 0)], attributes=attributes
        )
        self.dense.append(DenseSeam(node, "float64", None, "update", scale))
        return Edge(self._cast(f"{name}/narrow", Edge(rounded, 0), "float64", dtype), 0)

    def _cast(self, name: str, edge: Edge, old: str, new: str) -> str:
        attributes = {"SrcT": type_attribute(old), "DstT": type_attribute(new)}
        return self._editor.add("Cast", name, [edge], attributes=attributes)


def _verify(editor: Editor, ops: OpSet, target: TrainTarget) -> None:
    """The last word: no cycle, and no writer before a seam."""
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
