"""Which operation trains this graph?

Rule: a choice among the candidates (``train_candidates``) is made only where one is right;
everything else is a list of candidates and a question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.graph.gradients.alternating import phases_among
from orchestrator.graph.gradients.train_candidates import (
    TrainOp,
    find_candidates,
    train_op_collection,
    variables_written,
)
from orchestrator.graph.gradients.training_writers import accumulating_ops, training_updates
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.problem import Problem


@dataclass(frozen=True)
class TrainChoice:
    """What to run, what else there would be, and what has to be said about it."""

    targets: tuple[tuple[str, int], ...] = ()
    candidates: tuple[TrainOp, ...] = ()
    problems: tuple[Problem, ...] = field(default=())


def choose_train_ops(
    graph: Graph, trainable: set[str], asked: Iterable[str], updates: Sequence[str] | None = None
) -> TrainChoice:
    """The operations that a step runs, with their ratios.

    Args:
        trainable: names of the trainable variables.
        asked: ``NAME`` or ``NAME:RATIO`` as the user gave them; empty: discover.
        updates: ``training_updates(graph, trainable)`` where they're known already.
    """
    candidates = find_candidates(
        graph, training_updates(graph, trainable) if updates is None else updates
    )
    asked = tuple(asked)
    if asked:
        return _named(graph, candidates, asked)
    listed = tuple(candidate for candidate in candidates if candidate.in_collection) or candidates
    if not listed:
        return TrainChoice((), candidates, (_none_found(trainable),))
    if len(listed) == 1:
        return _single(graph, listed[0], candidates)
    return _among(graph, listed, candidates)


def _single(graph: Graph, chosen: TrainOp, candidates: tuple[TrainOp, ...]) -> TrainChoice:
    adding = accumulating_ops(graph, chosen.op)
    if adding:
        return TrainChoice((), candidates, (_accumulated(chosen.op, adding),))
    return TrainChoice(((chosen.op, 1),), candidates, tuple(_beside(graph, chosen, candidates)))


def _accumulated(applying: str, adding: list[str]) -> Problem:
    flags = " ".join(f"--train-op {name}:RUNS" for name in adding)
    return Problem(
        "accumulated-gradients",
        "error",
        f"{applying} applies gradients that {_few(adding)} adds up in runs of its own",
        f"Say how often: {flags} --train-op {applying}",
        tuple(adding),
    )


def _named(graph: Graph, candidates: tuple[TrainOp, ...], asked: tuple[str, ...]) -> TrainChoice:
    targets: list[tuple[str, int]] = []
    problems: list[Problem] = []
    for text in asked:
        name, ratio = _parse(text)
        if name in graph.view:
            targets.append((name, ratio))
            problems.extend(_more_downstream(graph, name, candidates))
        else:
            problems.append(_no_such(name, candidates))
    run = graph.view.ancestors(name for name, _ in targets)
    for name, _ in targets:
        adding = accumulating_ops(graph, name)
        if adding and run.isdisjoint(adding):
            problems.append(_accumulated(name, adding))
    return TrainChoice(tuple(targets), candidates, tuple(problems))


def _parse(text: str) -> tuple[str, int]:
    """``NAME:RATIO``; ``NAME:0`` is a tensor's name and means a ratio of 1."""
    name, _, number = text.removeprefix("^").rpartition(":")
    if not name or not number.isdigit():
        return text.removeprefix("^"), 1
    name = re.sub(r":\d+$", "", name)
    return name, max(1, int(number))


def _more_downstream(graph: Graph, name: str, candidates: tuple[TrainOp, ...]) -> list[Problem]:
    for candidate in candidates:
        if (
            candidate.op != name
            and name in graph.view.ancestors([candidate.op])
            and candidate.also_writes
        ):
            left_out = [one for one in candidate.also_writes if one not in _written(graph, name)]
            if left_out:
                message = f"{name} trains, and {candidate.op} downstream of it also writes {_few(left_out)}"
                return [
                    Problem(
                        "train-op-part",
                        "warning",
                        message,
                        f"Use --train-op {candidate.op} to run both",
                        (name, candidate.op),
                    )
                ]
    return []


def _written(graph: Graph, name: str) -> set[str]:
    return set(variables_written(graph, graph.writers(graph.view.ancestors([name]))))


def _no_such(name: str, candidates: tuple[TrainOp, ...]) -> Problem:
    remedy = (
        f"Candidates: {', '.join(one.op for one in candidates)}"
        if candidates
        else "No operation of this graph updates a trainable variable"
    )
    return Problem(
        "no-train-op",
        "error",
        f"the graph has no operation {name}",
        remedy,
        tuple(one.op for one in candidates),
    )


def _none_found(trainable: set[str]) -> Problem:
    why = (
        "none was found that updates its trainable variables from gradients or from data"
        if trainable
        else "it has no trainable variables"
    )
    return Problem(
        "no-train-op",
        "error",
        f"no operation trains this graph: {why}",
        "It may be an inference graph; name one with --train-op NAME",
    )


def _beside(graph: Graph, chosen: TrainOp, candidates: tuple[TrainOp, ...]) -> Iterable[Problem]:
    others = [one for one in candidates if one.op != chosen.op]
    if others:
        message = f"{chosen.op} is run; {_few([one.op for one in others])} would train too and isn't in the train_op collection"
        yield Problem(
            "other-train-ops",
            "warning",
            message,
            "Choose with --train-op NAME",
            tuple(one.op for one in others),
        )
    left_out = [
        name for name in train_op_collection(graph) if name not in graph.view.ancestors([chosen.op])
    ]
    if left_out:
        message = f"the train_op collection also names {_few(left_out)}, which updates nothing that can be trained"
        yield Problem("idle-train-op", "warning", message, nodes=tuple(left_out))


def _among(
    graph: Graph, listed: tuple[TrainOp, ...], candidates: tuple[TrainOp, ...]
) -> TrainChoice:
    """Several train ops: copies of one, parts that alternate, phases, or a question."""
    ordered = sorted(listed, key=lambda one: _natural(one.op))
    # A cell of a notebook that was run twice leaves Adam and Adam_1, which train the same variables
    if (
        len({_signature(one) for one in ordered}) == 1
        and len({_stem(one.op) for one in ordered}) == 1
    ):
        chosen = ordered[-1]
        message = f"{_few([one.op for one in ordered])} are copies of one train op; the last, {chosen.op}, is run"
        problem = Problem(
            "copied-train-ops",
            "warning",
            message,
            "Choose with --train-op NAME",
            tuple(one.op for one in ordered),
        )
        return TrainChoice(((chosen.op, 1),), candidates, (problem,))
    # No variable in two of them: the parts of a GAN, say, which belong together, or phases
    sets = [set(one.updates) for one in ordered]
    if sum(len(one) for one in sets) == len(set[str]().union(*sets)):
        phases = phases_among(graph, [(one.op, one.updates) for one in ordered])
        if phases is not None:
            return TrainChoice(
                (), candidates, (_phased(*phases, {one.op: one.updates for one in ordered}),)
            )
        named = _few([one.op for one in ordered])
        message = f"{named} update different variables; each step runs all of them in this order, each on batches of its own"
        problem = Problem(
            "several-train-ops",
            "warning",
            message,
            "Give order and ratios with --train-op NAME:RATIO; --cycle-batches same where the script ran them on one batch",
            tuple(one.op for one in ordered),
        )
        return TrainChoice(tuple((one.op, 1) for one in ordered), candidates, (problem,))
    lines = "; ".join(f"{one.op} updates {_few(list(one.updates))}" for one in ordered)
    problem = Problem(
        "ambiguous-train-op",
        "error",
        f"several operations train the same variables: {lines}",
        "Choose with --train-op NAME (repeat it to run several in turn)",
        tuple(one.op for one in ordered),
    )
    return TrainChoice((), candidates, (problem,))


def _phased(first: str, second: str, updates: Mapping[str, tuple[str, ...]]) -> Problem:
    return Problem(
        "phased-train-ops",
        "error",
        f"{second} trains on what {first} trains ({_few(list(updates[first]))}), and not the other way round: phases, as pre-training "
        "and fine-tuning are",
        f"Choose the phase with --train-op NAME; --train-op {first} --train-op {second} runs both in each step",
        (first, second),
    )


def _stem(name: str) -> str:
    return re.sub(r"_\d+(?=/|$)", "", name)


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    return tuple(
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name)
        if part
    )


def _signature(candidate: TrainOp) -> tuple[str, ...]:
    return tuple(sorted(_stem(name) for name in candidate.updates))


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
