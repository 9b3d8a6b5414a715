"""How does a seam come into the graph, for a value that the exchange replaces?

Rule: an Identity between the value and the inputs that want the group's; whole numbers pass as
float64, and what stands on one branch is led out to its seam and in again.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.graph.batch_scale import BatchScale
from orchestrator.graph.gradients.gradient_tensors import GradientCut
from orchestrator.graph.gradients.leading_out import led_in, led_out
from orchestrator.graph.gradients.non_gradient_updates import UpdateCuts
from orchestrator.graph.graphdef.edit import Editor, identity, type_attribute
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import INTEGERS
from orchestrator.graph.graphdef.view import Edge, Use
from orchestrator.graph.worker_graph import DenseSeam, SparseSeam


class SeamWriter:
    """The seams of one train op, as they're put into the editor's graph.

    Attributes:
        nodes: the Identity nodes.
        uses: the inputs that take one of them by now.
        dense, sparse: what each is.
    """

    def __init__(self, editor: Editor, graph: Graph, target: int) -> None:
        """``target`` is the number of the train op."""
        self._editor = editor
        self._graph = graph
        self._target = target
        self.nodes: list[str] = []
        self.uses: set[Use] = set()
        self.dense: list[DenseSeam] = []
        self.sparse: list[SparseSeam] = []

    def gradients(self, cuts: Iterable[tuple[GradientCut, BatchScale]]) -> None:
        """A seam for each gradient, with what it's of."""
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
        """A seam for each value that an update takes."""
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
        """Exchange whole numbers in float64, exact up to 2**53, and round: the group's mean of
        counts needn't be whole, and a cast alone would cut it off.
        """
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
