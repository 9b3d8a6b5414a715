"""At which tensors does a group meet, and in which order?

Rule: at a seam the graph's own value is cut off and a placeholder takes its place, so that a step
falls into phases: fetch what stands before the seams (nothing is written yet), exchange it outside
of TensorFlow, feed the result and run what stands behind. Seams of one level can't depend on each
other; a seam that is computed from another's result belongs to the next level, a further round.

It has to be a placeholder: TensorFlow keeps the control edges of any other node that is fed, and
would run the first phase again in the last one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import GraphRefused
from orchestrator.graph.repetition.gradient_scale import GradientScale, is_summed
from orchestrator.graph.worker_graph import TrainTarget
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.host.depths import seam_depths, seam_nodes, waits_for


@dataclass(frozen=True)
class Opening:
    """A tensor at a seam, cut.

    Attributes:
        fetch: name of the tensor that this rank computes.
        feed: name of the placeholder that takes the group's.
        dtype: TensorFlow's name of the type, such as ``float32``.
        kept: what is fed may become a variable's own memory, so it must never be overwritten.
        summed: the group's is the sum over slots, else the mean.
        weighted: that mean counts each slot by its batch's weight.
        fixed: the graph knows its whole shape, so no batch can change it.
    """

    fetch: str
    feed: str
    dtype: str
    kept: bool = False
    summed: bool = False
    weighted: bool = False
    fixed: bool = True


@dataclass(frozen=True)
class Level:
    """Seams that are exchanged in one round.

    Attributes:
        dense: each becomes the mean over slots, or the sum.
        rows: (values ``[rows, ...]``, indices ``[rows]``) of IndexedSlices, which become those of
            all slots, one after the other; where the mean is taken the values are divided by the
            number of slots.
    """

    dense: tuple[Opening, ...]
    rows: tuple[tuple[Opening, Opening], ...]

    @functools.cached_property
    def dense_names(self) -> tuple[str, ...]:
        """The tensors that the dense seams take, as the graph calls them."""
        return tuple(opening.fetch for opening in self.dense)

    @property
    def fetches(self) -> tuple[str, ...]:
        """Every tensor to fetch, once: two seams may take the same."""
        names = [opening.fetch for opening in self.dense]
        names.extend(opening.fetch for pair in self.rows for opening in pair)
        return tuple(dict.fromkeys(names))


class Seams:
    """The seams of one imported graph.

    Args:
        graph: the imported TensorFlow graph; a placeholder is added at every seam.
        targets: the train operations with their seams.
        scale: which seams are added up.
        weight: the tensor that weights the batches; None where all count the same.

    Raises:
        GraphRefused: no mean can be taken of a seam, or the weight follows from one.
    """

    def __init__(
        self,
        graph: Any,
        targets: Sequence[TrainTarget],
        scale: GradientScale = "auto",
        weight: str | None = None,
    ) -> None:
        self._graph = graph
        nodes = seam_nodes(targets)
        self._nodes = frozenset(nodes)
        self._depths = seam_depths(graph, targets)
        self._openings: dict[str, Opening] = {}
        with graph.as_default(), v1.name_scope("tfresume/seams/"), tf.control_dependencies(None):
            for target in targets:
                for dense in target.dense:
                    counts = weight is not None and dense.role == "gradient"
                    self._open(dense.node, False, is_summed(dense, scale), counts)
                for sparse in target.sparse:
                    added = is_summed(sparse, scale)
                    self._open(sparse.values_node, True, added, weight is not None)
                    self._open(sparse.indices_node, True)
        self._levels = [self._levels_of(target) for target in targets]
        self._own = [frozenset(seam_nodes([target])) for target in targets]
        if weight is not None and self._above(weight)[0]:
            raise GraphRefused(
                f"--weight-by {weight} follows from gradients, so it isn't known before they are",
                remedy="Name a tensor that a batch alone decides",
            )

    @property
    def openings(self) -> Mapping[str, Opening]:
        """Node of a seam to what it was cut into."""
        return self._openings

    def levels(self, target: int) -> tuple[Level, ...]:
        """The rounds of a target, the first one first; empty where it has no seams."""
        return self._levels[target]

    def round_of(self, target: int, tensor: str) -> int | None:
        """The first round in which ``tensor`` can be computed, ``len(levels)`` for what only the
        last phase can compute.

        None where it hangs on the seams of another target.
        """
        depth, above = self._above(tensor)
        if not above <= self._own[target]:
            return None
        rounds = self._rounds(target)
        return next(
            (number for number, reached in enumerate(rounds) if depth <= reached), len(rounds)
        )

    def _open(self, node: str, rows: bool, summed: bool = False, weighted: bool = False) -> None:
        if node in self._openings:
            return
        identity = self._graph.get_operation_by_name(node)
        value = identity.inputs[0]
        if not rows and value.dtype.base_dtype.name not in ADDABLE:
            raise GraphRefused(
                f"{value.name} is {value.dtype.base_dtype.name}, of which no mean can be taken",
                remedy="Use --workers 1",
            )
        shape = value.shape
        if rows and shape.rank is not None:
            # as many rows as all slots have together
            shape = tf.TensorShape([None]).concatenate(shape[1:])
        placeholder = v1.placeholder(value.dtype.base_dtype, shape, name=node.rpartition("/")[2])
        identity._update_input(0, placeholder)
        self._openings[node] = Opening(
            value.name,
            placeholder.name,
            value.dtype.base_dtype.name,
            _may_be_kept(identity),
            summed,
            weighted and not summed,
            value.shape.is_fully_defined(),
        )

    def _levels_of(self, target: TrainTarget) -> tuple[Level, ...]:
        depths = sorted({self._depths[node] for node in seam_nodes([target])})
        return tuple(
            Level(
                tuple(
                    self._openings[seam.node]
                    for seam in target.dense
                    if self._depths[seam.node] == depth
                ),
                tuple(
                    (self._openings[seam.values_node], self._openings[seam.indices_node])
                    for seam in target.sparse
                    if self._depths[seam.values_node] == depth
                ),
            )
            for depth in depths
        )

    def _rounds(self, target: int) -> list[int]:
        return sorted({self._depths[node] for node in self._own[target]})

    def _above(self, tensor: str) -> tuple[int, frozenset[str]]:
        """How many seams stand before a tensor on the longest way, and which stand before it at
        all.
        """
        stack = [self._graph.get_tensor_by_name(tensor).op]
        seen = {stack[0].name}
        found: set[str] = set()
        while stack:
            op = stack.pop()
            if op.name in self._nodes:
                found.add(op.name)
                continue
            for other in waits_for(op):
                if other.name not in seen:
                    seen.add(other.name)
                    stack.append(other)
        return max((self._depths[name] + 1 for name in found), default=0), frozenset(found)


ADDABLE = frozenset(("float16", "bfloat16", "float32", "float64", "complex64", "complex128"))
"""Whole numbers come as float64 from ``graph/cut.py``."""
HANDS_ON = frozenset(
    [
        "Identity",
        "IdentityN",
        "Reshape",
        "Squeeze",
        "ExpandDims",
        "StopGradient",
        "PreventGradient",
        "Snapshot",
        "CheckNumerics",
        "CheckNumericsV2",
        "Switch",
        "RefSwitch",
        "Merge",
        "Enter",
        "Exit",
        "NextIteration",
        "LoopCond",
        "Bitcast",
    ]
)
"""Operations whose output may be the memory of their input (TensorFlow's ``identity_op.h``,
``reshape_op.h``, ``control_flow_ops.cc``).
"""


def _may_be_kept(op: Any) -> bool:
    """Whether what an operation gives may outlive the run, in a variable, a queue, a list, or
    wherever a function puts it.

    ``AssignVariableOp`` makes the tensor that it's given the variable's own
    (``resource_variable_ops.cc``), and ``Assign`` may.
    """
    stack, seen = [op], {op.name}
    while stack:
        for consumer in (use for output in stack.pop().outputs for use in output.consumers()):
            if consumer.type in ("Assign", "AssignVariableOp") or _stores(consumer):
                return True
            if consumer.type in HANDS_ON and consumer.name not in seen:
                seen.add(consumer.name)
                stack.append(consumer)
    return False


def _stores(op: Any) -> bool:
    if any(
        word in op.type
        for word in ("Enqueue", "TensorList", "Stack", "TensorArray", "Stage", "PyFunc")
    ):
        return True
    return any(value.WhichOneof("value") == "func" for value in op.node_def.attr.values())
