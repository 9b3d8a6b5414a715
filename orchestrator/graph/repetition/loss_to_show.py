"""Which tensor is the loss, where neither a collection nor the user names one?

Rule: what the train operations follow the gradient of, since that is what is made smaller; where no
gradient scope tells, a scalar summary whose tag says that it's one. Only what a step computes
anyway is shown (``watching.adds_nothing``), so that looking costs nothing and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.repetition.losses_behind import LossesBehind
from orchestrator.graph.watching import adds_nothing

MOST = 4
"""Losses of a graph with several train operations (a GAN has two); with more nobody reads them."""
_SAYS_LOSS = re.compile(r"(?i)(?:^|[^a-z])(loss|cost|cross_?entropy|xent|nll|elbo|perplexity)")


def losses_of_gradients(graph: Graph, targets: Iterable[str]) -> tuple[str, ...]:
    """The tensors whose gradients the targets apply, in the order of the targets."""
    behind = LossesBehind(graph)
    found: dict[str, None] = {}
    every = tuple(targets)
    whole = graph.view.ancestors(every)
    for target in every:
        closure = whole if len(every) == 1 else graph.view.ancestors([target])
        roots = (edge for edge in behind.roots(closure) if adds_nothing(graph, edge, whole))
        found.update(dict.fromkeys(edge.tensor for edge in roots))
    return tuple(found)[:MOST]


def loss_to_show(
    graph: Graph, targets: Iterable[str], summaries: Sequence[tuple[str, str]]
) -> tuple[str, ...]:
    """The tensors to show as the loss; empty where nothing tells.

    Args:
        summaries: (tag, tensor) of the scalar summaries that a step can show.
    """
    found = losses_of_gradients(graph, targets)
    if found:
        return found
    said = (tensor for tag, tensor in summaries if _SAYS_LOSS.search(tag))
    return tuple(dict.fromkeys(said))[:1]
