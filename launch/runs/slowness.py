"""Why does a step take as long as it does?

Rule: a plain function of what the ranks' steps spent their time on (``step_times`` in the journal).
A rank that waits for another one spends it in the exchange; so the rank that has the least of it is
the one that the others wait for, and what it does meanwhile is the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

PARTS = ("input", "compute", "exchange", "apply", "save", "other")
"""In the order of a step. ``all`` is their sum."""
WAITED_FOR = 0.15
"""Share of a step that the others have to spend on waiting for one rank before it's named: less than
that, ranks differ from one moment to the next.
"""
_ADVICE = {
    "input": "the input function is what limits it: read and decode ahead, or in several processes",
    "compute": "computing is what limits it: more workers share a step's batches, up to one each",
    "exchange": "the exchange is what limits it: more batches a step, or fewer workers a host",
    "apply": "applying the gradients is what limits it: the optimizer writes every variable on every rank",
    "save": "saving is what limits it: save less often (--save-steps, --save-secs)",
    "other": "what stands between two steps limits it: other processes on the machine, or grants that come late",
}

Ranks = Mapping[str, Mapping[str, float]]


def step_parts(ranks: Ranks) -> dict[str, float]:
    """Seconds of a step by part, the mean over the ranks; of ``all`` as well."""
    return {
        name: mean(parts.get(name, 0.0) for parts in ranks.values()) for name in (*PARTS, "all")
    }


def why_slow(ranks: Ranks) -> str:
    """What limits a step, in one sentence with what to do; empty where nothing is known."""
    if not ranks:
        return ""
    parts = step_parts(ranks)
    slowest = waited_for(ranks)
    if slowest is not None:
        rank, part, longer_s = slowest
        return (
            f"the others wait for rank {rank}, whose {part} takes {longer_s * 1000:.3g} ms a step longer than theirs: "
            f"{_OF_ONE_RANK.get(part, 'look at its node')}"
        )
    return _ADVICE[max(PARTS, key=lambda name: parts[name])]


_OF_ONE_RANK = {
    "input": "look at what its input reads",
    "compute": "its node is slower, or busy with something else",
}


def waited_for(ranks: Ranks) -> tuple[str, str, float] | None:
    """The rank that the others wait for, what it does longer than they, and by how many seconds a
    step; None where nobody is waited for.
    """
    if len(ranks) < 2:
        return None
    rank = min(ranks, key=lambda name: (ranks[name].get("exchange", 0.0), name))
    others = [parts for name, parts in ranks.items() if name != rank]
    waiting_s = mean(parts.get("exchange", 0.0) for parts in others) - ranks[rank].get(
        "exchange", 0
    )
    whole_s = step_parts(ranks)["all"]
    if whole_s <= 0 or waiting_s < WAITED_FOR * whole_s:
        return None
    longer = {
        name: ranks[rank].get(name, 0.0) - mean(parts.get(name, 0.0) for parts in others)
        for name in PARTS
        if name != "exchange"
    }
    part = max(longer, key=lambda name: longer[name])
    return (rank, part, longer[part]) if longer[part] > 0 else None
