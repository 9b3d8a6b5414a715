"""What does a trial of a group's first step say, and what is its owner told?

Rule: a seam or a variable that differs, and isn't excused by statistics that each batch takes of its
own rows, refuses the run, with what the difference looks like and each way on that is open. What
couldn't be tried is said and stops nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from orchestrator.config import RunConfig
from orchestrator.errors import GraphRefused
from orchestrator.redaction import redacted
from orchestrator.store.run.run_record import Proved
from orchestrator.workers.foreign_text import short

Verdict = Literal["equal", "same batch", "differs", "unproved"]
NAMED = 4
"""Seams or variables named in a message; ``--json`` has them all."""
CANNOT_SHOW = "that can't show whether the loss is a mean or a sum over rows, counts rows by their data, or compares rows with each other"


@dataclass(frozen=True)
class Proof:
    """The answer.

    Attributes:
        told: one line: what was found.
        remedies: the ways on, where it differs.
        seams: what is known of each gradient or update that differs.
        variables: (variable, how far apart, relative to how far the step moved it).
    """

    verdict: Verdict
    told: str
    remedies: tuple[str, ...] = ()
    seams: tuple[Mapping[str, Any], ...] = field(default=())
    variables: tuple[tuple[str, float], ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)

    def record(self) -> Proved:
        """For the run's record."""
        accepted = "accepted: " if self.verdict == "differs" else ""
        return Proved(verdict=self.verdict, told=accepted + self.told)

    def refuse(self, source: str) -> None:
        """Raises GraphRefused where it differs."""
        if self.verdict == "differs":
            raise GraphRefused(
                f"{source} isn't trained by a group: {self.told}",
                remedy=_joined(self.remedies),
                details={"proof": self.as_dict()},
            )


def unproved(reason: str) -> Proof:
    """Nothing could be tried."""
    return Proof(
        "unproved", f"it wasn't proved that a group computes what one process would: {reason}"
    )


def quoted(text: str) -> str:
    """As much of a foreign error's text, such as what the user's own code raised, as may be written
    down: it goes into the run's record, and to whoever sees its status.
    """
    return redacted(short(text))


def judged(found: Mapping[str, Any], config: RunConfig, *, batches_per_step: int) -> Proof:
    """The proof that a trial gives.

    Args:
        found: what ``training.proof.measuring.measure`` returns.
        config: how the run puts gradients together.
        batches_per_step: of the run; the trial may have taken fewer.
    """
    if found["how"] == "none":
        return unproved(quoted(found["reason"]))
    if found["apart"]:
        return _drifting(*found["apart"])
    seams = [item for item in found["seams"] if not item["excused"]]
    variables = tuple((str(name), float(apart)) for name, apart in found["variables"])
    slots = _slots(int(found["slots"]), batches_per_step)
    if seams or variables:
        said, remedies = _difference(found, seams, variables, slots, config)
        return Proof("differs", said, remedies, tuple(seams), variables)
    gradients, written = found["compared"]
    seams_seen = f"{gradients} seam{'s' if gradients != 1 else ''}"
    compared = f"{seams_seen} and {written} variable{'s' if written != 1 else ''} agree"
    if found["how"] == "same batch":
        return Proof(
            "same batch",
            f"proved only with one batch in the place of {slots} ({quoted(found['reason'])}): {compared}; {CANNOT_SHOW}",
        )
    return Proof(
        "equal",
        f"proved: {slots} give what one process with all their rows gives: {compared}{_excused(found)}",
    )


def _drifting(tensors: Sequence[str], variables: Sequence[str]) -> Proof:
    """Workers that are fed different values apply different ones."""
    one = len(tensors) == 1
    said = (
        f"workers would drift apart: {_some(tensors)} {'is' if one else 'are'} fed differently from batch to batch, and "
        f"{_some(variables)} follow{'s' if len(variables) == 1 else ''} from what each worker is fed itself"
    )
    fixed = f"--feed {tensors[0]}=VALUE gives all batches one value"
    alone = "--workers 1 --batches-per-step 1 trains as one process, on the batches that the input gives"
    return Proof("differs", said, (fixed, alone), (), tuple((name, 1.0) for name in variables))


def _slots(tried: int, of: int) -> str:
    return f"{tried} batches" if tried == of else f"{tried} of a step's {of} batches"


def _excused(found: Mapping[str, Any]) -> str:
    count = sum(bool(item["excused"]) for item in found["seams"])
    if not count:
        return ""
    return (
        f", but for {count} that follow from statistics which each batch takes of its own rows (batch norm, moving averages), "
        "as everywhere in data-parallel training"
    )


def _difference(
    found: Mapping[str, Any],
    seams: Sequence[Mapping[str, Any]],
    variables: Sequence[tuple[str, float]],
    slots: str,
    config: RunConfig,
) -> tuple[str, tuple[str, ...]]:
    where = (
        f"{slots} and one process with all their rows"
        if found["how"] == "joint"
        else f"{slots}, all the same, and that one batch"
    )
    if not seams:
        names = _some(f"{name} (by {apart:.1g} of its movement)" for name, apart in variables)
        return (
            f"{where} give the same gradients and different variables: {names}; something beside the gradients reaches them",
            _always(),
        )
    looks, remedies = _looks(seams, int(found["means"]), config)
    gradients = _some(
        f"{_some(item['variables'], 2) or item['tensor']} (by {item['relative']:.1g})"
        for item in seams
    )
    moved = _some(name for name, _ in variables)
    after = f", and after one step {moved}" if moved else ""
    total = found["compared"][0]
    return (
        f"{where} give different gradients: {len(seams)} of {total} differ, of {gradients}{after}; {looks}",
        (*remedies, *_always()),
    )


def _looks(
    seams: Sequence[Mapping[str, Any]], means: int, config: RunConfig
) -> tuple[str, tuple[str, ...]]:
    """What the difference looks like, and what it takes."""
    patterns = {str(item["pattern"]) for item in seams}
    slots = max((len(item["weights"]) for item in seams if item["weights"]), default=0)
    if any(item.get("trains") for item in seams):
        return (
            "what trains these weights without gradients isn't a mean over rows, and a group takes the mean of the batches'",
            (),
        )
    if any(item["role"] == "update" for item in seams):
        return (
            "updates that aren't gradients add up over rows (counts, sums) or take the rows themselves, and a group takes the mean of "
            "the batches'",
            (),
        )
    if patterns == {"sum"}:
        return (
            f"one process's are {slots} times the group's mean: the loss sums over rows",
            ("--gradient-scale sum adds them up",) if not means else (),
        )
    if patterns == {"mean"} and all(item["summed"] for item in seams):
        return (
            f"the group's sum is {slots} times one process's: the loss is a mean over rows",
            ("--gradient-scale mean takes their mean",) if config.gradient_scale == "sum" else (),
        )
    if patterns <= {"counts", "none"} and "counts" in patterns:
        weights = next(item["weights"] for item in seams if item["weights"])
        shares = ", ".join(f"{weight:.3g}" for weight in weights)
        also = " (some are too small to tell)" if "none" in patterns else ""
        return (
            f"one process's are a mean of the batches' weighted by {shares}{also}: the loss divides by a count that follows from each "
            "batch's data or rows",
            ("--weight-by TENSOR weights each batch by the count that the graph computes",),
        )
    return (
        "no weighted sum of the batches' gradients is one process's: the loss isn't made of what each batch gives",
        (),
    )


def _always() -> tuple[str, ...]:
    return (
        "--workers 1 --batches-per-step 1 trains as one process, on the batches that the input gives",
        "--accept-differences trains in a group all the same, and every status and report says so",
        "--no-prove skips this where putting rows of batches together isn't what one process would be fed",
    )


def _some(names: Iterable[str], most: int = NAMED) -> str:
    every = list(dict.fromkeys(map(str, names)))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def _joined(remedies: Sequence[str]) -> str:
    return "Ways on: " + "; ".join(remedies)
