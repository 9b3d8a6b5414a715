"""What do the distances of two runs say: is resuming faithful, differs it for a known reason, or
differs it?

Rule: what has to be exact is judged first, and nothing excuses it but numbers drawn from a hidden
state or an order that the graph's own pipeline leaves to luck. So what is left between a group and
TensorFlow's joint batch is what its slots compute, and a known reason excuses no more of that than
it can account for: random numbers are held still and must agree then (or be no further apart than
other random numbers bring them); statistics that workers take of their own batches may move a
variable as far as training on one slot's batches alone moves it. All else is a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from orchestrator.config import RunConfig
from orchestrator.driver.proof import Proof
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

Verdict = Literal["agrees", "explained", "differs"]
Name = Literal["slots", "joint", "save", "slots held still", "joint held still", "save held still"]
WHAT: Mapping[Name, str] = {
    "slots": "the group and one process with the same batches, bit for bit",
    "joint": "the group and one bare TensorFlow process",
    "save": "with and without a save and a restart in the middle, bit for bit",
    "slots held still": "the group and one process, with random numbers held still",
    "joint held still": "the group and bare TensorFlow, with random numbers held still",
    "save held still": "with and without a restart, with random numbers held still",
}


@dataclass(frozen=True)
class Comparison:
    """Two runs of the same steps.

    Attributes:
        what: in words.
        compared: how many variables.
        relative: the largest difference of any of them, relative to how far the steps moved it.
        worst: (variable, relative difference) of those over the tolerance, worst first.
        reason: why it couldn't be compared; empty where it was.
        beyond: those of ``worst`` that no known reason accounts for.
        name: which comparison this is.
    """

    what: str
    agrees: bool | None
    tolerance: float
    compared: int = 0
    relative: float = 0.0
    worst: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    beyond: tuple[str, ...] = ()
    name: Name = "joint"


@dataclass(frozen=True)
class VerifyReport:
    """The answer of ``tfresume verify``.

    Attributes:
        verdict: ``agrees``; ``explained``: it differs as far as ``causes`` account for it, or
            couldn't be compared; ``differs``.
        moved: variables that the steps changed.
        causes: what makes a group differ from one process in this graph.
        proof: of the first step, gradient by gradient; None with one batch a step.
    """

    verdict: Verdict
    source: str
    workers: int
    steps: int
    start_step: int
    comparisons: tuple[Comparison, ...]
    moved: int
    causes: tuple[str, ...] = field(default=())
    proof: Proof | None = None

    @property
    def exit_code(self) -> int:
        """0 where it agrees or what differs is named, else 1."""
        return 1 if self.verdict == "differs" else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


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
    first = _compared(found, graph, tolerance)
    calm = None if held is None else _compared(held, graph, tolerance, still=True)
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
    found: Mapping[str, Any], graph: WorkerGraph, tolerance: float, *, still: bool = False
) -> Compared:
    pulled = any(port.pull for port in graph.inputs)
    why = str(found["reason"])
    order = (
        "the graph's own pipeline decides which batches come in which order"
        if pulled and not why
        else why
    )
    slots, joint, save = NAMES[still]
    exact = _exact(slots, found["slots"], str(found.get("slots_reason") or why))
    saved = None if found["save"] is None else _exact(save, found["save"], "")
    return Compared(exact, _close(joint, found, tolerance, order, graph), saved)


NAMES: Mapping[bool, tuple[Name, Name, Name]] = {
    False: ("slots", "joint", "save"),
    True: ("slots held still", "joint held still", "save held still"),
}


def _exact(name: Name, measured: Any, reason: str) -> Comparison:
    """Bit for bit."""
    if measured is None:
        return Comparison(WHAT[name], None, 0.0, reason=reason, name=name)
    over = tuple(
        (str(item["name"]), float(item["relative"])) for item in measured if item["relative"] > 0
    )
    largest = max((float(item["relative"]) for item in measured), default=0.0)
    return Comparison(WHAT[name], not over, 0.0, len(measured), largest, over, name=name)


def _close(
    name: Name, found: Mapping[str, Any], tolerance: float, reason: str, graph: WorkerGraph
) -> Comparison:
    """To rounding, and beyond that no further than a known reason reaches."""
    measured = found["bare"]
    if measured is None:
        return Comparison(WHAT[name], None, tolerance, reason=reason, name=name)
    over = tuple(
        (str(item["name"]), float(item["relative"]))
        for item in measured
        if item["relative"] > tolerance
    )
    largest = max((float(item["relative"]) for item in measured), default=0.0)
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
        WHAT[name], not over, tolerance, len(measured), largest, over, beyond=beyond, name=name
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
