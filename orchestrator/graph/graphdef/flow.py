"""Which nodes of a graph run exactly once in every step?

Rule: those outside all loops and conditionals. A Switch opens a conditional and a Merge closes it,
Enter opens a loop's frame and Exit closes it; an exchange with other workers on a branch that isn't
taken would hang the group.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.view import MERGES, NEXT_ITERATIONS, GraphView

Frame = tuple[tuple[str, int], ...]
"""Enclosing loops, outermost first: frame name, and how many conditionals were open at its Enter.
"""


@dataclass(frozen=True)
class Flow:
    """Where each node stands.

    Attributes:
        frames: the loops around it.
        depths: the number of conditionals open there.
    """

    frames: dict[str, Frame]
    depths: dict[str, int]

    def once(self, name: str) -> bool:
        """Whether the node runs exactly once in every step that needs it."""
        return name in self.depths and not self.frames[name] and not self.depths[name]


def read_flow(view: GraphView) -> Flow:
    """For each node the loops and conditionals that it stands in."""
    frames: dict[str, Frame] = {}
    depths: dict[str, int] = {}
    for name in view.order()[0]:
        frame: Frame = ()
        depth = 0
        for source in _sources(view, name):
            if len(frames[source]) > len(frame):
                frame = frames[source]
            depth = max(depth, depths[source])
        frames[name], depths[name] = _after(view, name, frame, depth)
    return Flow(frames, depths)


def _sources(view: GraphView, name: str) -> list[str]:
    sources = [edge.node for edge in view.data[name] if edge.node in view]
    if view.ops[name] in MERGES:
        sources = [source for source in sources if view.ops[source] not in NEXT_ITERATIONS]
    return sources + [source for source in view.controls[name] if source in view]


def _after(view: GraphView, name: str, frame: Frame, depth: int) -> tuple[Frame, int]:
    op = view.ops[name]
    if op in ("Switch", "RefSwitch"):
        return frame, depth + 1
    if op in MERGES:
        loops = any(view.op(edge.node) in NEXT_ITERATIONS for edge in view.data[name])
        return frame, depth if loops else max(0, depth - 1)
    if op in ("Enter", "RefEnter"):
        label = attribute(view.nodes[name], "frame_name").s.decode("utf-8", "replace")
        return (*frame, (label, depth)), depth
    if op in ("Exit", "RefExit") and frame:
        return frame[:-1], frame[-1][1]
    return frame, depth
