"""How does a dataset pipeline give the same batches in the same order to every process, on today's
TensorFlow?

Rule: what the graph left to chance is settled by the run's seed: shuffles without a seed get one,
parallel stages keep their order. Then every rank sees the same sequence and can take its own part
of it, and a restart can skip to where it was. Operations of an old release that this TensorFlow can
build but no longer serialize are written as their successors; its own old optimizer passes are left
out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import integer_in
from orchestrator.graph.graphdef.edit import OWN, constant_attributes
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.tensors import input_slots

BYPASSED = frozenset({"OptimizeDataset", "OptimizeDatasetV2", "ModelDataset"})
"""Hints of the release that wrote the graph about how to run it; today's adds its own, and may not
know the old ones.
"""

SUCCESSORS = {"BatchDataset": "BatchDatasetV2", "PaddedBatchDataset": "PaddedBatchDatasetV2"}
"""Both take ``drop_remainder`` as a last input, false in the old form. Today's kernels write the
new form when they serialize either.
"""

GENERATED_SEEDS = frozenset({"ShuffleDatasetV3"})
"""It takes its seeds and a resource that may be shared between iterators; without the resource it's
a plain ShuffleDataset.
"""


class Body:
    """The graph or one function body, to be changed in place.

    Args:
        nodes: the repeated field of NodeDefs.
        results: what the function returns, None for the graph.
    """

    def __init__(self, nodes: Iterable[NodeDef], container: object, results: object | None) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._container = container
        self._results = results
        self._passed: dict[str, str] = {}

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant; the text by which an input names it."""
        full = OWN + name
        while full in self.nodes:
            full += "_"
        node = self._container.add(name=full, op="Const")  # type: ignore[attr-defined]
        for key, value in constant_attributes(array).items():
            node.attr[key].CopyFrom(value)
        self.nodes[full] = node
        return full if self._results is None else f"{full}:output:0"

    def constant_integer(self, text: str) -> int | None:
        """The integer that an input takes from a constant of this body."""
        node = self.nodes.get(text.partition(":")[0])
        if node is None or node.op != "Const" or "value" not in node.attr:
            return None
        return integer_in(attribute(node, "value").tensor)

    def pass_by(self, name: str) -> None:
        """Give the consumers of ``name`` its own first input instead; takes effect with ``settle``."""
        self._passed[name] = self.nodes[name].input[0]

    def settle(self) -> None:
        """Rewire all consumers of what is passed by, in one pass."""
        if not self._passed:
            return
        for node in self.nodes.values():
            for slot, text in enumerate(node.input):
                if text.partition(":")[0] in self._passed:
                    node.input[slot] = self._source(text)
                elif text.startswith("^") and text[1:] in self._passed:
                    node.input[slot] = "^" + self._source(text[1:]).partition(":")[0]
        for key, text in list((self._results or {}).items()):  # type: ignore[attr-defined]
            if text.partition(":")[0] in self._passed:
                self._results[key] = self._source(text)  # type: ignore[index]

    def _source(self, text: str) -> str:
        # Several hints may stand in a row; the bound ends a circle, which only a damaged graph has
        for _ in range(len(self._passed) + 1):
            following = self._passed.get(text.partition(":")[0])
            if following is None:
                break
            text = following
        return text


class Library:
    """The bodies of one MetaGraphDef, opened when they're asked for and each once."""

    def __init__(self, meta: MetaGraphDef) -> None:
        self._meta = meta
        self._functions = {
            function.signature.name: function for function in meta.graph_def.library.function
        }
        self._open: dict[str, Body] = {}

    def __contains__(self, function: object) -> bool:
        return function == "" or function in self._functions

    def body(self, function: str) -> Body:
        """The body of a function; the graph itself for ``""``."""
        if function not in self._open:
            if function:
                definition = self._functions[function]
                self._open[function] = Body(
                    definition.node_def, definition.node_def, definition.ret
                )
            else:
                self._open[function] = Body(
                    self._meta.graph_def.node, self._meta.graph_def.node, None
                )
        return self._open[function]


def settle_order(
    meta: MetaGraphDef, ops: OpSet, members: Iterable[tuple[str, str]], seed: int
) -> tuple[str, ...]:
    """Make the datasets among ``members`` ((function, node) pairs) give one order for one ``seed``;
    in place.

    Returns:
        What was changed, in words.
    """
    by_function: dict[str, list[str]] = {}
    for function, name in members:
        by_function.setdefault(function, []).append(name)
    said: list[str] = []
    library = Library(meta)
    for function, names in by_function.items():
        if function not in library:
            continue
        body = library.body(function)
        for name in sorted(set(names)):
            node = body.nodes.get(name)
            if node is not None and ("Dataset" in node.op or node.op.endswith("SeedGenerator")):
                said.extend(_settle(body, ops, node, seed))
        body.settle()
    return tuple(said)


def _settle(body: Body, ops: OpSet, node: NodeDef, seed: int) -> list[str]:
    if node.op in BYPASSED:
        body.pass_by(node.name)
        return []
    said = _renew(body, node)
    if _pin_seeds(body, ops, node, seed):
        said.append(f"{node.name} shuffles by the run's seed")
    if _keep_order(body, ops, node):
        said.append(f"{node.name} keeps its order")
    return said


def _renew(body: Body, node: NodeDef) -> list[str]:
    if node.op in SUCCESSORS:
        node.input.append(body.constant(f"{node.name}/drop_remainder", np.asarray(False)))
        old, node.op = node.op, SUCCESSORS[node.op]
        return [f"{node.name} is {node.op} instead of {old}"]
    if node.op in GENERATED_SEEDS and all(
        body.constant_integer(node.input[slot]) is not None for slot in (2, 3)
    ):
        # Inputs: dataset, buffer size, seed, seed2, seed generator (``core/ops/dataset_ops.cc``)
        node.op = "ShuffleDataset"
        del node.input[4]
    return []


def _pin_seeds(body: Body, ops: OpSet, node: NodeDef, seed: int) -> bool:
    """Give a node whose two seeds are zero, which means "by chance", the run's."""
    definition = ops.get(node.op)
    slots = (
        {} if definition is None else input_slots(node, definition, frozenset({"seed", "seed2"}))
    )
    if len(slots) != 2 or max(slots.values()) >= len(node.input):
        return False
    # Both 0 is TensorFlow's word for "by chance": ``MaybeOverrideSeeds`` of
    # ``core/data/dataset_utils.cc``. The author's own seeds stay
    if any(body.constant_integer(node.input[slot]) != 0 for slot in slots.values()):
        return False
    for name, value in (("seed", seed), ("seed2", chance_free_seed(node.name))):
        node.input[slots[name]] = body.constant(f"{node.name}/{name}", np.asarray(value, np.int64))
    return True


def chance_free_seed(name: str) -> int:
    """A second seed that stays the same for a node, and differs between nodes: shuffles in a row
    shouldn't draw alike.
    """
    return 1 + zlib.crc32(name.encode())


def _keep_order(body: Body, ops: OpSet, node: NodeDef) -> bool:
    # The same wish in three forms, from release to release: an attribute ``deterministic``, an
    # attribute ``sloppy``, an input ``sloppy``
    changed = False
    if attribute(node, "deterministic").s == b"false":
        node.attr["deterministic"].CopyFrom(AttrValue(s=b"true"))
        changed = True
    if attribute(node, "sloppy").b:
        node.attr["sloppy"].CopyFrom(AttrValue(b=False))
        changed = True
    definition = ops.get(node.op)
    slots = {} if definition is None else input_slots(node, definition, frozenset({"sloppy"}))
    if "sloppy" in slots and slots["sloppy"] < len(node.input):
        node.input[slots["sloppy"]] = body.constant(f"{node.name}/sloppy", np.asarray(False))
        changed = True
    return changed
