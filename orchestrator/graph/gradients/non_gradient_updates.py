"""Which writers get values that differ between ranks without being gradients?

Rule: moving averages, metrics, learning rates from a batch. Their values are exchanged too, at the
last place before any writer or loop; what merely waits for a writer isn't behind it. Out of a
conditional whose predicate is the same on all ranks they're led (``leading_out``). Behind a writer
or in a loop, and where a value has parts of which some grow with the batch, the way goes up, through
linear operations only: the mean of activations isn't a statistic of them. Through any operations it
goes where it ends in means and sums over rows alone, since then all that follows is the joint
batch's. What can't be exchanged (rows, a condition, a text) keeps the graph on one worker, and so
does a value that gradients are computed from: the group's would take the place of the batch's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from orchestrator.graph.batch_scale import BatchScale
from orchestrator.graph.gradients.detaching import detach
from orchestrator.graph.gradients.judging import Judge, Judged, can_average, is_plain
from orchestrator.graph.gradients.linear import linear_inputs
from orchestrator.graph.gradients.means_above import Means, differing
from orchestrator.graph.gradients.rank_local import RankLocal
from orchestrator.graph.graphdef.branches import Branch, Branches
from orchestrator.graph.graphdef.flow import Flow
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, Use

_EXTREMES = frozenset({"Maximum", "Minimum"})


@dataclass(frozen=True)
class UpdateCuts:
    """Tensors to exchange, or why that can't be done.

    Attributes:
        uses: tensor to the inputs that want the group's.
        scales: what each tensor is, and the variables that are written with it.
        branches: the conditionals around a tensor that stands in some, outermost first.
    """

    uses: dict[Edge, list[Use]] = field(default_factory=dict)
    scales: dict[Edge, BatchScale] = field(default_factory=dict)
    branches: dict[Edge, tuple[Branch, ...]] = field(default_factory=dict)
    refused: str = ""


class _CantAverage(Exception):
    """Why a value can't be exchanged; never seen outside of this file."""


class _NotExact(Exception):
    """Why a bent gradient can't be exchanged; never seen outside of this file."""


def update_cuts(
    graph: Graph,
    closure: set[str],
    local: RankLocal,
    settings: Iterable[tuple[Edge, Use]],
    flow: Flow,
    rewired: frozenset[Use],
    gradients: Iterable[str],
    judge: Judge,
    exactly: Mapping[Use, str] = MappingProxyType({}),
) -> UpdateCuts:
    """Where to exchange the values that ``local.writes`` lists.

    Args:
        settings: inputs of writers that are alike on all ranks as long as nobody feeds them by batch;
            exchanged where that can be done, and else left.
        flow: the loops and conditionals around each node.
        rewired: inputs that get an equal value from a gradient's seam.
        gradients: the nodes whose values are exchanged as gradients.
        judge: what a value is.
        exactly: inputs that take gradients bent before the exchange, which have to be the joint
            batch's; with the reason for refusing them where they can't be.
    """
    climb = _Climb(graph, closure, local, flow, rewired, gradients, judge, exactly)
    return climb.cuts(settings)


class _Climb:
    """The way from the writers up to where each value can be exchanged."""

    def __init__(
        self,
        graph: Graph,
        closure: set[str],
        local: RankLocal,
        flow: Flow,
        rewired: frozenset[Use],
        gradients: Iterable[str],
        judge: Judge,
        exactly: Mapping[Use, str],
    ) -> None:
        self._judge, self._exactly = judge, exactly
        self._graph, self._local, self._flow, self._closure = graph, local, flow, closure
        writers = [name for name in closure if graph.writes(name)]
        self._late = graph.view.descendants(writers, within=closure)
        self._seen = set(rewired)
        self._gradients = tuple(gradients)
        self._before_gradients: set[str] | None = None
        self._branches: Branches | None = None
        self._decided: tuple[list[str], set[str]] | None = None
        self._found = UpdateCuts()
        self._means = Means(graph, local.nodes, flow, self._judged, self._can_cut)

    def cuts(self, settings: Iterable[tuple[Edge, Use]]) -> UpdateCuts:
        """All of them, those of ``settings`` included as far as they can be."""
        waiting = [(edge, use, use.node) for edge, use in self._local.writes]
        while waiting:
            edge, use, writer = waiting.pop()
            if use in self._seen:
                continue
            self._seen.add(use)
            try:
                waiting.extend((*above, writer) for above in self._cut_or_climb(edge, use, writer))
            except _NotExact as why:
                return UpdateCuts(refused=str(why))
            except _CantAverage as why:
                return UpdateCuts(refused=_differs(self._graph, writer, str(why)))
        # Last, since a refusal above makes them needless; what can't be exchanged is left, as it's
        # alike on all ranks anyhow
        for edge, use in settings:
            if use not in self._seen and edge.port >= 0 and self._around(edge) == ():
                self._cut_setting(edge, use)
        return self._found

    def _cut_setting(self, edge: Edge, use: Use) -> None:
        scale = self._judge(edge).scale
        plain = scale.kind in ("mean", "sum") and edge.node not in self._late
        if plain and can_average(self._graph, edge, use, scale):
            self._seen.add(use)
            self._add(edge, use, (), scale, use.node)

    def _cut_or_climb(self, edge: Edge, use: Use, writer: str) -> list[tuple[Edge, Use]]:
        """Nothing more to look at where the value is cut here, else what it's computed from."""
        if edge.port < 0:
            raise _CantAverage(f"whether it runs depends on {edge.node}")
        branches = self._around(edge)
        if branches is None or not self._before_writers(edge):
            return self._above(edge, "stands in a loop, a conditional or behind another writer")
        judged = self._judged(edge)
        bent = use in self._exactly or not is_plain(judged)
        reduced = self._means.above(edge) if bent else None
        if reduced is not None:
            return reduced
        if use in self._exactly:
            raise _NotExact(self._exactly[use])
        if judged.scale.kind == "mixed":
            return self._above(edge, f"isn't in proportion to the rows ({judged.scale.why})")
        if judged.rows:
            raise _CantAverage(
                f"{edge.tensor} has a value for each row of the batch{self._inside(writer)}"
            )
        # The largest loss so far, say: the mean of the ranks' extremes isn't the group's extreme
        extreme = self._extreme_of(edge, writer)
        if extreme:
            raise _CantAverage(f"{extreme} is the extreme of what was written and of a batch")
        if not can_average(self._graph, edge, use, judged.scale):
            raise _CantAverage(f"{edge.tensor} is {self._graph.dtype(edge) or 'of unknown type'}")
        # The gradients would then be computed from the group's value, which isn't there before they
        # are, and isn't what one batch gives
        if not self._graph.writes(use.node) and use.node in self._computed_with():
            raise _CantAverage(f"the gradients are computed from {use.node} too")
        self._add(edge, use, branches, judged.scale, writer)
        return []

    def _judged(self, edge: Edge) -> Judged:
        """What a value is; a mean that a batch's own branch gave isn't one of its rows."""
        judged = self._judge(edge)
        if not is_plain(judged):
            return judged
        decided, behind = self._decided_by_batch()
        if edge.node not in behind:
            return judged
        above = self._graph.view.ancestors([edge.node], control=False)
        chosen = next(name for name in decided if name in above)
        why = "which branch is taken follows from the batch"
        return Judged(BatchScale("nonlinear", why, chosen))

    def _decided_by_batch(self) -> tuple[list[str], set[str]]:
        """The ends of conditionals of which the batch decides, and all that's computed from them."""
        if self._decided is None:
            ends = [name for name in sorted(self._local.nodes) if not self._switched_alike(name)]
            self._decided = ends, self._graph.view.descendants(ends, control=False)
        return self._decided

    def _can_cut(self, edge: Edge, use: Use) -> bool:
        """Whether a mean or a sum can be exchanged for one of its uses."""
        scale = self._judge(edge).scale
        return (
            self._before_writers(edge)
            and can_average(self._graph, edge, use, scale)
            and use.node not in self._computed_with()
        )

    def _before_writers(self, edge: Edge) -> bool:
        """Whether a value is known before anything is written, or would be if it didn't wait."""
        if edge.node not in self._late:
            return True
        return not detach(self._graph, self._closure, {edge.node}, self._flow).refused

    def _inside(self, writer: str) -> str:
        """What to say of a writer that is a call of a function."""
        if self._graph.traits(writer).writes:
            return ""
        return ", and what is written is computed from it inside of a function, where workers can't meet"

    def _add(
        self, edge: Edge, use: Use, branches: tuple[Branch, ...], scale: BatchScale, writer: str
    ) -> None:
        self._found.uses.setdefault(edge, []).append(use)
        known = self._found.scales.get(edge, scale)
        written = dict.fromkeys((*known.variables, *self._graph.written_by(writer)))
        self._found.scales[edge] = replace(known, variables=tuple(written))
        if branches:
            self._found.branches[edge] = branches

    def _extreme_of(self, edge: Edge, writer: str) -> str:
        """The operation that takes the larger or smaller of a variable's value and a batch's before
        it's written there; ``""`` where there is none.
        """
        above = self._graph.view.ancestors([edge.node], control=False) & self._local.nodes
        extremes = [name for name in above if self._graph.view.op(name) in _EXTREMES]
        if not extremes:
            return ""
        variables = self._graph.written_by(writer)
        after = self._graph.view.descendants(variables, control=False)
        return next((name for name in sorted(extremes) if name in after), "")

    def _around(self, edge: Edge) -> tuple[Branch, ...] | None:
        """The conditionals that a value has to be led out of; None where it can't be."""
        if self._flow.once(edge.node):
            return ()
        if self._flow.frames.get(edge.node, ("?",)):
            return None
        self._branches = self._branches or Branches(self._graph.view)
        found = self._branches.around(edge, self._flow.depths)
        if not found:
            return None
        # Where ranks take different branches some have a value and others none; behind a writer the
        # predicate isn't known before the exchange
        predicates = {predicate.node for predicate, _ in found}
        return found if predicates.isdisjoint(self._local.nodes | self._late) else None

    def _above(self, edge: Edge, why: str) -> list[tuple[Edge, Use]]:
        """What a value is computed from that differs between ranks."""
        name = edge.node
        inputs = differing(self._graph, self._local.nodes, name)
        if not inputs:
            raise _CantAverage(f"{name} {why}")
        linear = linear_inputs(self._graph, name, {use.slot for _, use in inputs})
        if not linear or not self._switched_alike(name):
            raise _CantAverage(
                f"{name} {why}, and {self._graph.view.op(name)} of a mean isn't the mean of what it gives"
            )
        return inputs

    def _switched_alike(self, name: str) -> bool:
        """Whether a Merge takes the same branch on all ranks."""
        if self._graph.view.op(name) not in ("Merge", "RefMerge"):
            return True
        self._branches = self._branches or Branches(self._graph.view)
        return not any(
            predicate.node in self._local.nodes
            for source in self._graph.view.data[name]
            for predicate, _ in self._branches.around(source, self._flow.depths) or ()
        )

    def _computed_with(self) -> set[str]:
        """What the gradients take data from."""
        if self._before_gradients is None:
            self._before_gradients = self._graph.view.ancestors(self._gradients, control=False)
        return self._before_gradients


def _differs(graph: Graph, writer: str, why: str) -> str:
    variable = graph.variable_of(writer) or "state"
    return f"{writer} writes {variable} from values that differ between workers and can't be averaged: {why}"
