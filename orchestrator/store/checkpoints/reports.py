"""What can be told about a run from its output alone?

Rule: reading only, and everything in one value that ``--json`` can show as it is. What can't be
read is part of the answer, not the end of it: a status command that fails when something is broken
is of no use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.errors import OrchestratorError, SourceError
from orchestrator.store.checkpoints.chains import chain_of
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, age, scan_all
from orchestrator.store.checkpoints.verification import speaks_of_content
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.evaluations import Holds
from orchestrator.store.run.lineage import TakeOver, read_lineage
from orchestrator.store.run.run_record import (
    read_run_record,
)

CHECKERS = 8
"""Checkpoints looked at side by side: most of the time is the store's answering time."""
QUICK_CHECKS = 100
"""Checkpoints, from the newest on, whose manifests and indexes a quick look reads; older ones are
told from the listing alone.
"""
State = Literal["good", "incomplete", "corrupt", "fenced"]
Verified = Literal["listed", "quick", "deep"]


@dataclass(frozen=True)
class CheckpointRow:
    """One checkpoint of a run.

    Attributes:
        label: ``a0001-g0001/NAME-11000``.
        modified: unix seconds by the store's clock, None where it doesn't tell.
        age_s: since then, by this machine's clock.
        state: ``good``, ``incomplete`` (never committed), ``corrupt``, or ``fenced`` (not in the
            run's lineage).
        why: why it isn't good; empty where it is.
        manifest: what it promises; None where it can't be read.
        verified: ``deep`` where every byte was read, ``quick`` for manifest, sizes, index and a
            sample, ``listed`` for names alone.
        kept_for: why it stays although newer ones are there: the best by a metric, or being
            evaluated. Empty where nobody needs it.
        stands_on: labels of the saves without which it's none, the full one first; empty for a full
            one.
    """

    label: str
    step: int
    attempt: int
    generation: int
    size_bytes: int
    modified: float | None
    age_s: float | None
    state: State
    why: str = ""
    verified: Verified = "quick"
    parent: str | None = None
    position: int | None = None
    world_size: int | None = None
    kept_for: str = ""
    stands_on: tuple[str, ...] = ()
    manifest: Manifest | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        names = (
            "label",
            "step",
            "attempt",
            "generation",
            "size_bytes",
            "modified",
            "age_s",
            "state",
            "why",
            "verified",
        )
        return {
            name: getattr(self, name)
            for name in (*names, "parent", "position", "world_size", "kept_for", "stands_on")
        }


@dataclass(frozen=True)
class CheckpointsReport:
    """A run's checkpoints, newest first, and its lineage, oldest first."""

    output: str
    checkpoints: tuple[CheckpointRow, ...]
    lineage: tuple[TakeOver, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "output": self.output,
            "checkpoints": [row.as_dict() for row in self.checkpoints],
            "lineage": [link.model_dump() for link in self.lineage],
        }


def checkpoints_report(
    output: Location, *, verify: bool = False, now: Callable[[], float] = time.time
) -> CheckpointsReport:
    """Every checkpoint below the output and its state.

    Args:
        verify: read every byte and check every tensor; else manifests, sizes, indexes and a sample
            of the newest ones.

    Raises:
        SourceError: the output holds no run. StorageUnavailable: the store doesn't answer.
    """
    lineage = read_lineage(output)
    full, changes = scan_all(output, lineage)
    items = sorted((*full, *changes), key=age, reverse=True)
    by_label = {item.label: item for item in items}
    if not items and not lineage.chain and read_run_record(output) is None:
        raise _no_run(output)
    now_s = now()
    with ThreadPoolExecutor(CHECKERS) as pool:
        looks: list[Verified] = [
            "deep" if verify else "quick" if place < QUICK_CHECKS else "listed"
            for place in range(len(items))
        ]
        rows = tuple(pool.map(lambda item, look: _row(item, by_label, look, now_s), items, looks))
    corrupt = {row.label for row in rows if row.state == "corrupt"}
    rows = tuple(_over_links(row, corrupt) for row in rows)
    needed = Holds(output, wait=time.sleep).reasons()
    rows = tuple(replace(row, kept_for=needed.get(row.label, "")) for row in rows)
    return CheckpointsReport(output.shown, rows, lineage.chain)


def _row(
    item: Checkpoint, by_label: Mapping[str, Checkpoint], look: Verified, now_s: float
) -> CheckpointRow:
    manifest: Manifest | None = None
    state: State = "good"
    why = ""
    try:
        if item.committed and look != "listed":
            manifest = item.manifest()
            item.check(deep=look == "deep")
            if item.is_changes:
                folded = chain_of(item, by_label).folded()
                if look == "deep":
                    folded.check_rows()
        elif not item.committed:
            state, why = (
                "incomplete",
                "it was never committed: the save didn't finish, or is under way",
            )
    except OrchestratorError as error:
        if not speaks_of_content(error):
            raise
        state, why = "corrupt", error.message
    if item.fenced:
        state, why = "fenced", item.fenced
    times = [file.modified for file in item.candidate.files.values() if file.modified is not None]
    modified = max(times, default=None)
    return CheckpointRow(
        label=item.label,
        step=item.step,
        attempt=item.generation_id.attempt,
        generation=item.generation_id.generation,
        size_bytes=item.size_bytes,
        modified=modified,
        age_s=None if modified is None else max(0.0, now_s - modified),
        state=state,
        why=why,
        verified=look,
        parent=manifest.parent if manifest else None,
        position=manifest.position if manifest else None,
        world_size=manifest.world_size if manifest else None,
        stands_on=tuple(link.label for link in manifest.chain) if manifest else (),
        manifest=manifest,
    )


def _over_links(row: CheckpointRow, corrupt: Collection[str]) -> CheckpointRow:
    """Each save's bytes are read once, be it a link of many: what stands on a corrupt one is none."""
    bad = next((label for label in row.stands_on if label in corrupt), None)
    if bad is None or row.state != "good":
        return row
    return replace(row, state="corrupt", why=f"it stands on {bad}, which is corrupt")


def _no_run(output: Location) -> SourceError:
    return SourceError(
        f"{output.shown} holds no run of tfresume",
        remedy="Give the --output URL of a run",
        details={"missing": True},
    )
