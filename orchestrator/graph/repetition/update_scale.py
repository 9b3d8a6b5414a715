"""Does the group take the mean of what an update writes, or the sum, or is neither right?

Rule: what would be M times as large for a batch that is repeated M times is a count or a sum of
rows, and is added up; a mean stays one. Of a value that has parts of both kinds each part is asked.
A value for each row of the batch has no mean: no row of it would be a row of any batch.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.graph.batch_scale import BatchScale, ScaleKind
from orchestrator.graph.gradients.judging import Judged
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.repetition.analysis import repeated
from orchestrator.graph.repetition.values import Dims, Fixed, Linearity, Mixed, Rows, Unknown
from orchestrator.graph.worker_graph import InputPort


class UpdateScales:
    """The answers for what the writers of one target take."""

    def __init__(
        self,
        graph: Graph,
        ports: Iterable[InputPort],
        constants: Iterable[str],
        wanted: Iterable[Edge],
    ) -> None:
        """``ports`` and ``constants`` are those of ``repeated``; ``wanted`` all that will be asked,
        or what follows from it.
        """
        self._repetition = repeated(graph, ports, constants, {edge.node for edge in wanted})

    def of(self, edge: Edge) -> Judged:
        """What a tensor is, as far as that can be told."""
        value = self._repetition.of(edge)
        if isinstance(value, Rows | Dims):
            # Refusing what may well be a single number would refuse graphs that train rightly
            if self._shapeless(edge):
                return _told("unknown", "whether it has rows isn't known", edge.node)
            return Judged(BatchScale("unknown", "it has a value for each row", edge.node), True)
        if isinstance(value, Mixed):
            return _told("mixed", "it adds what grows with the rows to what doesn't", value.node)
        if isinstance(value, Unknown):
            if self._of_mixed(value.node):
                return _told("mixed", value.why, value.node)
            return _told("unknown", value.why, value.node)
        return self._fixed(value, edge)

    def _fixed(self, value: Fixed, edge: Edge) -> Judged:
        if value.form == Linearity.MASKED and value.degree == 0:
            why = "it's divided by a count that follows from the data"
            return _told("masked", why, value.why or edge.node)
        if value.form and value.degree == 0:
            return _told("nonlinear", "it isn't linear in what each row gives", value.why)
        if value.degree == 1 and not value.form and not self._shapeless(edge):
            return _told("sum", "", edge.node)
        if value.degree == 0:
            return _told("mean", "", edge.node)
        why = f"it's multiplied by M^{value.degree} where the batch is repeated M times"
        return _told("unknown", why, value.why or edge.node)

    def _of_mixed(self, name: str) -> bool:
        """Whether a node is given what grows and what doesn't in one."""
        data = self._repetition.graph.view.data.get(name, ())
        return any(isinstance(self._repetition.of(edge), Mixed) for edge in data)

    def _shapeless(self, edge: Edge) -> bool:
        """Whether it follows from an input that may be a batch or a single number."""
        shapeless = self._repetition.shapeless
        return bool(shapeless) and not shapeless.isdisjoint(
            self._repetition.graph.view.ancestors([edge.node], control=False)
        )


def _told(kind: ScaleKind, why: str, node: str) -> Judged:
    return Judged(BatchScale(kind, why, node))
