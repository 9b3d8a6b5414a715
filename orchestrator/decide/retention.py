"""Which checkpoints may go?

Rule: the newest ``max_to_keep`` stay, as ``tf.train.Saver`` has it. Of those that fall out of that
window, one stays for good for every ``keep_every_h`` hours of training (measured in training time,
so clocks of different writers don't matter). Whatever the numbers say, the newest good checkpoint
and every protected one (being read, being restored) stay.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """One committed checkpoint, as far as this decision is concerned.

    Attributes:
        label: how it's called.
        training_s: seconds of training since the run's first start when it was saved; never falls
            along a lineage.
        good: it was looked at and is good; None where nobody looked.
    """

    label: str
    training_s: float
    good: bool | None = None


@dataclass(frozen=True)
class Retention:
    """What stays and what goes, both newest first, and why each that stays beyond the window does."""

    keep: tuple[str, ...]
    delete: tuple[str, ...]
    reasons: dict[str, str]


def retention(
    checkpoints: Sequence[Kept],
    *,
    max_to_keep: int,
    keep_every_h: float,
    protected: Collection[str] = (),
) -> Retention:
    """What stays and what goes.

    Args:
        checkpoints: committed and in the lineage, newest first.
        max_to_keep: newest to keep; 0 keeps all.
        keep_every_h: hours of training between those that stay for good.
        protected: labels that stay in any case.
    """
    reasons: dict[str, str] = {}
    newest = len(checkpoints) if max_to_keep == 0 else max_to_keep
    for item in checkpoints[:newest]:
        reasons[item.label] = "newest"
    for label in _hourly(checkpoints[newest:], keep_every_h):
        reasons[label] = "hourly"
    last_good = next((item.label for item in checkpoints if item.good), None)
    if last_good is not None:
        reasons.setdefault(last_good, "last good")
    else:
        # Nobody knows of a good one: nothing goes before somebody has looked
        return Retention(
            tuple(item.label for item in checkpoints),
            (),
            {item.label: "no good one known" for item in checkpoints},
        )
    for item in checkpoints:
        if item.label in protected:
            reasons.setdefault(item.label, "protected")
    return Retention(
        keep=tuple(item.label for item in checkpoints if item.label in reasons),
        delete=tuple(item.label for item in checkpoints if item.label not in reasons),
        reasons=reasons,
    )


def _hourly(older: Sequence[Kept], keep_every_h: float) -> list[str]:
    """Oldest first: one stays as soon as so many hours have passed since the last that stayed
    (since 0 for the first).
    """
    kept, last_s = [], 0.0
    for item in reversed(older):
        if item.training_s - last_s >= keep_every_h * 3600:
            kept.append(item.label)
            last_s = item.training_s
    return kept
