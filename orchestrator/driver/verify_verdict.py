"""Is resuming faithful, as the distances between two runs tell: it is, or differs for a known
reason, or differs without one?

Rule: what has to be exact is judged first, and nothing excuses it but numbers drawn from a hidden
state or an order that the graph's own pipeline leaves to luck. So what is left between a group and
TensorFlow's joint batch is what its slots compute, and a known reason excuses no more of that than
it can account for. What the order of the rows alone changes is rounding, where the proof of the
first step found all gradients equal (else it may be a graph that minds the order). Random numbers
are held still and must agree then (or be no further apart than other random numbers bring them);
statistics that workers take of their own batches may move a variable as far as training on one
slot's batches alone moves it. All else is a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.driver.proof import Proof
from orchestrator.driver.verify_report import WHAT, Comparison, Name, Verdict, VerifyReport
from orchestrator.graph.worker_graph import WorkerGraph

TOLERANCE = 1e-3
"""Of a variable's largest movement. Measured with ``training.baseline.distances`` between
``train_slots`` and ``train_bare``, four steps of two and three slots, over the graphs of
``tests/training/many_graphs`` (the tests' own, habits from the wild, strangers' checkpoints):
without a reason to differ the worst variable of 29 graphs is below 4e-7, of two strangers' 4e-5 and
1.7e-4. A lost or doubled slot of a hundred, or a wrong scale, is 1e-2 or more.
"""
ROOM = 1.0
"""How far statistics may move a variable, in what one slot's batches alone move it. Measured in the
same way over the graphs with batch norm and moving averages of activations: 0.2 to 0.5, and 1.0 for
running sums.
"""
LUCK = 3.0
"""How far random numbers that can't be held still may move a variable, in the most that four other
draws of them move it: beyond that lies one in a hundred, for a variable of one normally distributed
number.
"""
ORDER = 4.0
"""How much larger than in one other order of the rows rounding may come out, as in the proof of the
first step (``training.proof.comparing.LUCK``): a gradient that is nothing but rounding comes out
otherwise with every order.
"""


@dataclass(frozen=True)
class Compared:
    """The comparisons of one set of runs."""

    slots: Comparison
    joint: Comparison
    save: Comparison | None


def report(
    found: Mapping[str, Any],
    graph: WorkerGraph,
    config: RunConfig,
    *,
    steps: int,
    start_step: int,
    tolerance: float,
    held: Mapping[str, Any] | None = None,
    proof: Proof | None = None,
) -> VerifyReport:
    """Judge the distances that were measured.

    Args:
        found: the baseline's answer.
        held: its answer with random numbers held still, where that was asked.
        proof: of the first step; what it finds to differ differs.
    """
    proved = proof is not None and proof.verdict == "equal"
    # Other rows get other random numbers, so that their order shows more than rounding
    first = _compared(found, graph, tolerance, proved=proved and not drawn(graph))
    calm = None if held is None else _compared(held, graph, tolerance, proved=proved, still=True)
    stray = str(found.get("input", ""))
    verdict = _verdict(first, calm, graph, stray)
    if proof is not None and proof.verdict == "differs":
        verdict = "differs"
    shown = [first.slots, first.joint, *([first.save] if first.save else [])]
    if calm is not None:
        # What was exact with random numbers needs no second look without them
        shown += [calm.slots] if first.slots.agrees is False else []
        shown += [calm.joint]
        shown += [calm.save] if calm.save and first.save and not first.save.agrees else []
    causes = () if verdict == "agrees" else tuple(_causes(graph, config, stray))
    workers = 1 if graph.group_refused else config.workers.count
    return VerifyReport(
        verdict,
        config.source,
        workers,
        steps,
        start_step,
        tuple(shown),
        int(found["moved"]),
        causes,
        proof,
    )


def _verdict(first: Compared, calm: Compared | None, graph: WorkerGraph, stray: str) -> Verdict:
    exact = calm if calm is not None and graph.stateful_random else first
    by_luck = any(port.pull for port in graph.inputs)
    if exact.save is not None and exact.save.agrees is False:
        return "differs"
    if exact.slots.agrees is False and not by_luck:
        return "differs"
    if (
        first.joint.agrees
        and first.slots.agrees is not False
        and first.save is not None
        and first.save.agrees
        and not stray
    ):
        return "agrees"
    held = calm is not None and calm.joint.agrees is not None
    if not held and graph.stateful_random:
        return "explained"  # nothing bounds what comes out of a hidden state
    decisive = calm if calm is not None and held else first
    return "differs" if decisive.joint.beyond else "explained"


def _compared(
    found: Mapping[str, Any],
    graph: WorkerGraph,
    tolerance: float,
    *,
    proved: bool,
    still: bool = False,
) -> Compared:
    pulled = any(port.pull for port in graph.inputs)
    why = str(found["reason"])
    order = (
        "the graph's own pipeline decides which batches come in which order"
        if pulled and not why
        else why
    )
    slots, joint, save = NAMES[still]
    exact = (
        _not_compared(slots, 0.0, str(found.get("slots_reason") or why))
        if found["slots"] is None
        else _exact(slots, found["slots"])
    )
    saved = None if found["save"] is None else _exact(save, found["save"])
    return Compared(exact, _close(joint, found, tolerance, order, graph, proved=proved), saved)


NAMES: Mapping[bool, tuple[Name, Name, Name]] = {
    False: ("slots", "joint", "save"),
    True: ("slots held still", "joint held still", "save held still"),
}


def _not_compared(name: Name, tolerance: float, reason: str) -> Comparison:
    return Comparison(WHAT[name], None, tolerance, reason=reason, name=name)


def _exact(name: Name, measured: Any) -> Comparison:
    """Bit for bit."""
    over = tuple(
        (str(item["name"]), float(item["relative"])) for item in measured if item["relative"] > 0
    )
    largest = max((float(item["relative"]) for item in measured), default=0.0)
    return Comparison(WHAT[name], not over, 0.0, len(measured), largest, over, name=name)


def _close(
    name: Name,
    found: Mapping[str, Any],
    tolerance: float,
    reason: str,
    graph: WorkerGraph,
    *,
    proved: bool,
) -> Comparison:
    """To rounding, and beyond that no further than a known reason reaches.

    Args:
        proved: every gradient of the first step was found equal.
    """
    if found["bare"] is None:
        return _not_compared(name, tolerance, reason)
    measured = [(str(item["name"]), float(item["relative"])) for item in found["bare"]]
    turned = found.get("turned", {}) if proved else {}
    rounded = tuple(
        item
        for item, apart in measured
        if tolerance < apart <= tolerance + ORDER * float(turned.get(item, 0.0))
    )
    told = [pair for pair in measured if pair[0] not in rounded]
    over = tuple(pair for pair in told if pair[1] > tolerance)
    largest = max((apart for _, apart in told), default=0.0)
    shares, redrawn = (
        found.get("shares", {}) if _statistics(graph) else {},
        found.get("redrawn", {}),
    )
    excused = {
        item: ROOM * float(shares.get(item, 0.0)) + LUCK * float(redrawn.get(item, 0.0))
        for item, _ in over
    }
    beyond = tuple(item for item, apart in over if apart > tolerance + excused[item])
    return Comparison(
        WHAT[name],
        not over,
        tolerance,
        len(measured),
        largest,
        over,
        beyond=beyond,
        rounded=rounded,
        name=name,
    )


def drawn(graph: WorkerGraph) -> tuple[str, ...]:
    """The graph's random operations."""
    return (*graph.random_nodes, *graph.stateful_random)


def _statistics(graph: WorkerGraph) -> list[str]:
    """Seams of what isn't a gradient: moving averages and counts that each worker takes of its own
    batches.
    """
    return [seam.node for target in graph.targets for seam in target.dense if seam.role == "update"]


def _causes(graph: WorkerGraph, config: RunConfig, stray: str) -> Iterator[str]:
    """What makes this graph's training on several workers differ from one process, or one run from
    the next.
    """
    random = drawn(graph)
    if random:
        yield (
            f"{len(random)} random operations (dropout, noise, samplers), such as {random[0]}: tfresume draws by the number of the "
            "batch, bare TensorFlow by a state of its own"
        )
    if graph.stateful_random:
        hidden = graph.stateful_random
        yield (
            f"{len(hidden)} of them, such as {hidden[0]}, have no form that draws by a number: each process draws from a hidden state, "
            "which a restart begins anew"
        )
    if any(port.pull for port in graph.inputs):
        yield "the order of the batches that the graph's own input pipeline makes"
    if stray:
        yield f"the input function: {stray} is not the same for one worker as for {config.workers.count}; it must follow from its number"
    slots = config.batches_per_step or config.workers.count
    if slots > 1 and not graph.group_refused:
        updates = _statistics(graph)
        if updates:
            yield (
                f"{len(updates)} moving statistics, such as {updates[0]}: averaged over the step's batches, where one process "
                "takes them over all rows at once"
            )
