"""What should an operator know of how a graph's gradients follow from the number of rows?

Rule: one line for each way in which a group's step isn't just the mean of its batches', with the
losses and variables concerned: what the group does, and what that is compared with one process that
has all batches in one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.graph.batch_scale import BatchScale, ScaleKind
from orchestrator.graph.problem import Problem
from orchestrator.graph.repetition.gradient_scale import GradientScale, gradient_seams
from orchestrator.graph.worker_graph import TrainTarget

NAMED = 3
"""Variables named in a line; the problem's nodes have them all."""

CODES: dict[ScaleKind, str] = {
    "sum": "summed-loss",
    "masked": "masked-loss",
    "nonlinear": "nonlinear-loss",
    "mixed": "mixed-loss",
    "unknown": "unknown-loss-scale",
}


def scale_problems(targets: Iterable[TrainTarget], choice: GradientScale) -> list[Problem]:
    """One warning for each kind of loss whose gradients aren't plain means, and one for the updates
    whose mean isn't the joint batch's, for a group only.
    """
    targets = tuple(targets)
    return [*_of_gradients(targets, choice), *_of_updates(targets)]


def _of_updates(targets: Iterable[TrainTarget]) -> list[Problem]:
    """What is written by averages that one process with all rows would compute otherwise."""
    scales = [
        seam.scale
        for target in targets
        for seam in target.dense
        if seam.role == "update" and seam.scale.kind not in ("mean", "sum")
    ]
    if not scales:
        return []
    variables = tuple(dict.fromkeys(variable for scale in scales for variable in scale.variables))
    whys = "; ".join(dict.fromkeys(f"{scale.node}: {scale.why}" for scale in scales[:NAMED]))
    return [
        Problem(
            "averaged-update",
            "warning",
            f"{_some(variables)} are written from the mean of the batches' own values, which isn't what one process with all rows would "
            f"compute from them ({whys})",
            "Nothing to do where batches are alike, as for batch norm's variances; --workers 1 with the whole batch is exact",
            variables,
            modes=("group",),
        )
    ]


def _of_gradients(targets: Iterable[TrainTarget], choice: GradientScale) -> list[Problem]:
    by_kind: dict[ScaleKind, list[BatchScale]] = {}
    for seam in gradient_seams(targets):
        by_kind.setdefault(seam.scale.kind, []).append(seam.scale)
    if choice == "sum" and "mean" in by_kind:
        return [
            _summed_means(by_kind["mean"]),
            *(_problem(kind, by_kind[kind], choice) for kind in CODES if kind in by_kind),
        ]
    return [_problem(kind, by_kind[kind], choice) for kind in CODES if kind in by_kind]


def in_short(targets: Iterable[TrainTarget]) -> list[dict[str, Any]]:
    """Kind, losses, reason and variables of all gradients, those that are alike together."""
    found: dict[tuple[ScaleKind, tuple[str, ...], str, str], list[str]] = {}
    for seam in gradient_seams(targets):
        scale = seam.scale
        found.setdefault((scale.kind, scale.losses, scale.why, scale.node), []).extend(
            scale.variables
        )
    return [
        {
            "kind": kind,
            "losses": list(losses),
            "why": why,
            "node": node,
            "variables": list(dict.fromkeys(variables)),
        }
        for (kind, losses, why, node), variables in found.items()
    ]


def _problem(kind: ScaleKind, scales: list[BatchScale], choice: GradientScale) -> Problem:
    losses = ", ".join(dict.fromkeys(loss for scale in scales for loss in scale.losses))
    variables = tuple(dict.fromkeys(variable for scale in scales for variable in scale.variables))
    whys = "; ".join(
        dict.fromkeys(f"{scale.node}: {scale.why}" if scale.node else scale.why for scale in scales)
    )
    loss = f"the loss {losses}" if losses else "a loss"
    said, remedy = _SAYING[kind](loss, _some(variables), whys, choice)
    return Problem(CODES[kind], "warning", said, remedy, variables, modes=("group",))


def _some(variables: tuple[str, ...]) -> str:
    more = f" and {len(variables) - NAMED} more" if len(variables) > NAMED else ""
    return f"{', '.join(variables[:NAMED])}{more}" if variables else "some variables"


def _done(choice: GradientScale) -> str:
    return (
        "adds the batches' gradients up"
        if choice == "sum"
        else "takes the mean of the batches' gradients"
    )


def _sum(loss: str, variables: str, whys: str, choice: GradientScale) -> tuple[str, str]:
    if choice == "mean":
        return (
            f"{loss} sums over rows, and the group takes the mean of M batches' gradients all the same: 1/M of what one process with "
            "all rows would compute",
            "Leave --gradient-scale out, or give auto, to add them up",
        )
    return (
        f"{loss} sums over rows, so the group adds the gradients of its M batches up, as one process with all rows would: M times as "
        "large as one batch's",
        "Nothing to do; --gradient-scale mean keeps a step as large as one batch's",
    )


def _masked(loss: str, variables: str, whys: str, choice: GradientScale) -> tuple[str, str]:
    return (
        f"{loss} is divided by a count that follows from the data ({whys}): each batch by its own, and the group {_done(choice)} of "
        f"{variables}, so rows of a batch in which few count weigh more than in one process with all rows",
        "Nothing to do where batches are alike in that count; else name the count with --weight-by TENSOR",
    )


def _nonlinear(loss: str, variables: str, whys: str, choice: GradientScale) -> tuple[str, str]:
    return (
        f"{loss} isn't linear in what each row gives ({whys}): the group {_done(choice)} of {variables}, which isn't quite what one "
        "process with all rows would compute",
        "Nothing to do where batches are alike",
    )


def _mixed(loss: str, variables: str, whys: str, choice: GradientScale) -> tuple[str, str]:
    wrong = "the penalty counts M times" if choice == "sum" else "its sum counts 1/M"
    return (
        f"{loss} is a sum over rows and something that doesn't grow with them ({whys}): the group {_done(choice)} of {variables}, in "
        f"which {wrong} compared with one process with all rows",
        "Take the penalty's weight into account, or rebuild the graph with a mean over rows",
    )


def _unknown(loss: str, variables: str, whys: str, choice: GradientScale) -> tuple[str, str]:
    return (
        f"whether {loss} sums over rows or is their mean couldn't be told ({whys}): the group {_done(choice)} of {variables}",
        "If it sums over rows, --gradient-scale sum gives what one process with all rows would compute",
    )


_SAYING = {
    "sum": _sum,
    "masked": _masked,
    "nonlinear": _nonlinear,
    "mixed": _mixed,
    "unknown": _unknown,
}


def _summed_means(scales: list[BatchScale]) -> Problem:
    losses = ", ".join(dict.fromkeys(loss for scale in scales for loss in scale.losses))
    return Problem(
        "mean-added-up",
        "warning",
        f"the loss {losses} is a mean over rows, and --gradient-scale sum adds the gradients of M batches up: M times what one process "
        "with all rows would compute",
        "Leave --gradient-scale out, or give auto",
        tuple(dict.fromkeys(variable for scale in scales for variable in scale.variables)),
        modes=("group",),
    )
