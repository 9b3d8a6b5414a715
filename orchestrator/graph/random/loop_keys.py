"""How does a key reach a random operation inside a loop, other in each iteration?

Rule: the key enters the loop's frame as a constant, and a counter of ours goes round with the
loop's own condition; the key of an iteration is their sum. A loop inside a loop starts from the key
of the outer iteration.
"""

from __future__ import annotations

import hashlib

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import (
    Editor,
    constant_attributes,
    integer_attribute,
    type_attribute,
)
from orchestrator.graph.graphdef.flow import Flow, Frame
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge

INT64 = {"T": type_attribute("int64")}


class LoopKeys:
    """Keys inside the frames of one graph, made when first asked for."""

    def __init__(self, editor: Editor, graph: Graph, flow: Flow) -> None:
        self._editor = editor
        self._graph = graph
        self._flow = flow
        self._conditions = {
            flow.frames[name]: name
            for name, op in graph.view.ops.items()
            if op == "LoopCond" and flow.frames.get(name)
        }
        self._enters = {
            flow.frames[name]: name
            for name, op in graph.view.ops.items()
            if op == "Enter" and flow.frames.get(name)
        }
        self._made: dict[tuple[Frame, str], tuple[Edge, Edge]] = {}

    def reaches(self, name: str) -> bool:
        """Whether every loop around the node has one condition and stands in no conditional."""
        frame = self._flow.frames.get(name)
        if frame is None:
            return False
        inside = [frame[: depth + 1] for depth in range(len(frame))]
        return all(
            part in self._conditions and part in self._enters for part in inside
        ) and self._unconditional(frame)

    def _unconditional(self, frame: Frame) -> bool:
        """Outside of conditionals at each entry; a loop's own body counts as one (its Switch).

        What is added to a frame enters it unconditionally. Inside a conditional that isn't taken it
        would enter the frame of a loop that never runs.
        """
        return all(depth == level for level, (_, depth) in enumerate(frame))

    def at(self, name: str, feed: str, key: Edge) -> Edge:
        """The key at ``name``, int64 ``[2]``: ``key`` itself outside of loops."""
        frame = self._flow.frames[name]
        for depth in range(len(frame)):
            condition, body = self._key(frame[: depth + 1], feed, key)
            last = depth == len(frame) - 1
            in_body = self._flow.depths[name] > frame[depth][1] if last else True
            key = body if in_body else condition
        return key

    def _key(self, frame: Frame, feed: str, key: Edge) -> tuple[Edge, Edge]:
        """The keys of an iteration of ``frame``: for its condition and for its body."""
        if (frame, feed) not in self._made:
            self._made[frame, feed] = self._make(frame, feed, key)
        return self._made[frame, feed]

    def _make(self, frame: Frame, feed: str, key: Edge) -> tuple[Edge, Edge]:
        add, label = self._editor.add, f"loop/{len(self._made)}"
        like = self._graph.view.nodes[self._enters[frame]]
        place = {
            "frame_name": attribute(like, "frame_name"),
            "parallel_iterations": attribute(like, "parallel_iterations"),
        }
        constant = {**INT64, **place, "is_constant": _boolean(True)}
        entered = add("Enter", f"{label}/key", [key], attributes=constant)
        # In a loop within a loop the key is the outer one's, in whose frame the constant has to be
        # too
        zero = add(
            "Const",
            f"{label}/zero",
            controls=[key.node],
            attributes=constant_attributes(np.zeros(2, np.int64)),
        )
        start = add(
            "Enter",
            f"{label}/start",
            [Edge(zero, 0)],
            attributes={**INT64, **place, "is_constant": _boolean(False)},
        )
        around = f"tfresume/{label}/next"
        merged = add(
            "Merge",
            f"{label}/count",
            [Edge(start, 0), Edge(around, 0)],
            attributes={**INT64, "N": integer_attribute(2)},
        )
        switch = add(
            "Switch",
            f"{label}/switch",
            [Edge(merged, 0), Edge(self._conditions[frame], 0)],
            attributes=INT64,
        )
        inside = add("Identity", f"{label}/inside", [Edge(switch, 1)], attributes=INT64)
        # After a node of the frame, or it would be computed outside of it
        stride = add(
            "Const",
            f"{label}/stride",
            controls=[inside],
            attributes=constant_attributes(_stride(frame)),
        )
        following = add(
            "AddV2", f"{label}/following", [Edge(inside, 0), Edge(stride, 0)], attributes=INT64
        )
        add("NextIteration", f"{label}/next", [Edge(following, 0)], attributes=INT64)
        # The condition is asked once more than the body runs, so the two take the counter at
        # different places: before the Switch and behind it
        condition = add(
            "AddV2", f"{label}/condition_key", [Edge(entered, 0), Edge(merged, 0)], attributes=INT64
        )
        body = add(
            "AddV2", f"{label}/body_key", [Edge(entered, 0), Edge(inside, 0)], attributes=INT64
        )
        return Edge(condition, 0), Edge(body, 0)


def _stride(frame: Frame) -> np.ndarray:
    """How far a key moves in one iteration: int64 ``[2]``, other for each loop, so that loops
    within loops don't meet.
    """
    digest = hashlib.blake2b(repr(frame).encode(), digest_size=8).digest()
    halves = np.frombuffer(digest, dtype="<u4").astype(np.int64)
    return halves * 2 + 1  # odd, so never zero: no two iterations have one key


def _boolean(value: bool) -> AttrValue:
    return AttrValue(b=value)
