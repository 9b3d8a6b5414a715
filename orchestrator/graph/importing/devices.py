"""Where do a graph's operations go on this machine?

Rule: saved device names mean machines that are gone. They're cleared, or moved by a map, in the
graph and in its function bodies; colocation with a node that isn't there is dropped. Every change
is counted by the device it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.library import every_node

COLOCATED = b"loc:@"


@dataclass(frozen=True)
class DeviceReport:
    """What became of devices.

    Attributes:
        moved: (device as saved, device now) to the number of operations.
        colocations: number of colocation constraints dropped since they name nothing.
    """

    moved: Mapping[tuple[str, str], int] = field(default_factory=dict)
    colocations: int = 0


def place(meta: MetaGraphDef, *, clear: bool, device_map: Mapping[str, str]) -> DeviceReport:
    """Clear or move the devices of ``meta``, in place.

    Args:
        clear: drop every device that ``device_map`` says nothing of.
        device_map: pattern (``/job:ps/*``) to device; the first that matches counts. ``""`` clears.
    """
    moved: Counter[tuple[str, str]] = Counter()
    dropped = 0
    top = {node.name for node in meta.graph_def.node}
    bodies = {
        function.signature.name: {node.name for node in function.node_def}
        for function in meta.graph_def.library.function
    }
    for function, node in every_node(meta.graph_def):
        if node.device:
            target = new_device(node.device, clear=clear, device_map=device_map)
            if target != node.device:
                moved[node.device, target] += 1
                node.device = target
        if "_class" in node.attr:
            dropped += _drop_dangling(node, bodies[function] if function else top)
    return DeviceReport(dict(moved), dropped)


def new_device(device: str, *, clear: bool, device_map: Mapping[str, str]) -> str:
    """Where an operation saved on ``device`` goes; ``""`` is TensorFlow's own choice."""
    for pattern, target in device_map.items():
        if fnmatchcase(device, pattern) or fnmatchcase(device.lower(), pattern.lower()):
            return target
    return "" if clear else device


def _drop_dangling(node: NodeDef, names: set[str]) -> int:
    said = list(node.attr["_class"].list.s)
    kept = [
        one
        for one in said
        if not one.startswith(COLOCATED)
        or one[len(COLOCATED) :].decode("utf-8", "replace") in names
    ]
    if len(kept) == len(said):
        return 0
    del node.attr["_class"].list.s[:]
    node.attr["_class"].list.s.extend(kept)
    if not kept:
        del node.attr["_class"]
    return len(said) - len(kept)
