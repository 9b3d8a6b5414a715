"""Which seeds do random operations get that were saved without any?

Rule: from the run's seed and the node's name, so that two processes draw the same initial values
and candidate samples. TensorFlow's deterministic kernels refuse random operations without a seed
("When determinism is enabled, random ops must have a seed specified"). Operations that the step
draws from have become stateless before (``random_ops``); this is for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import google_crc32c

from orchestrator.graph.graphdef.opset import op_def


def give_seeds(graph_def: Any, seed: int) -> tuple[str, ...]:
    """Sets ``seed`` and ``seed2`` of every operation, in function bodies too, that has these
    attributes and both are 0.

    Args:
        graph_def: a GraphDef of TensorFlow's or TensorBoard's protos; changed in place.
        seed: of the run.

    Returns:
        The names of the nodes that were given seeds.
    """
    bodies = [
        ("", graph_def.node),
        *((f"{each.signature.name}/", each.node_def) for each in graph_def.library.function),
    ]
    return tuple(name for prefix, nodes in bodies for name in _give(prefix, nodes, seed))


def _give(prefix: str, nodes: Iterable[Any], seed: int) -> Iterable[str]:
    for node in nodes:
        if not _takes_seeds(node.op) or any(
            name in node.attr and node.attr[name].i for name in ("seed", "seed2")
        ):
            continue
        name = prefix + node.name
        # Never both 0: then TensorFlow draws them by chance (``GuardedPhiloxRandom::Init`` of
        # ``core/util/guarded_philox_random.cc``)
        node.attr["seed"].i = seed + 1
        node.attr["seed2"].i = google_crc32c.value(name.encode())
        yield name


def _takes_seeds(op: str) -> bool:
    definition = op_def(op)
    wanted = {"seed", "seed2"}
    return definition is not None and wanted <= {
        attr.name for attr in definition.attr if attr.type == "int"
    }
