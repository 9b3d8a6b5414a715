"""With what does a run begin: which checkpoint, which graph, and whose workers?

Rule: what is wrong with the command is found before the lease is taken. Whoever held the run until
then may have gone on meanwhile, so everything that another driver can change is looked at again
once the lease is held. Workers of a driver that died are taken over only by a command that means
what they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.config import RunConfig
from orchestrator.decide.policy import Policy
from orchestrator.driver.slots import Slots, as_recorded, slots_of
from orchestrator.driver.startup import Plan, StartPoint, counted, make_plan, policy_of, start_point
from orchestrator.errors import ConfigError
from orchestrator.redaction import redacted_data
from orchestrator.store.checkpoints.source import named_source, resolve_source, source_fingerprint
from orchestrator.store.objects.location import Location
from orchestrator.store.run.run_record import RunRecord, check_same_source

DRIVER_ONLY = frozenset(
    (
        "source",
        "from_step",
        "output",
        "address",
        "until_step",
        "steps",
        "save_steps",
        "save_secs",
        "max_to_keep",
        "keep_every_hours",
        "max_failed_saves",
        "save_policy",
        "on_nonfinite",
        "on_outlier",
        "outlier_factor",
        "workers",
        "on_loss",
        "wait",
        "wait_s",
        "hang_floor_s",
        "orphan_timeout_s",
        "max_losses_per_hour",
        "lease_s",
        "init_missing",
        "allow_op",
        "force",
        "tensorboard",
        "notify",
        "callback",
        "prove",
        "accept_differences",
        "rename",
        "restore_only",
        "reinit",
        "reset_slots",
        "reset_step",
    )
)
"""Settings that living workers weren't made with, so that a new driver may have others."""


@dataclass(frozen=True)
class Ready:
    """All that a fresh start needs."""

    start: StartPoint
    plan: Plan
    policy: Policy
    slots: Slots


def prepared(
    config: RunConfig, output: Location, record: RunRecord | None, earlier: Ready | None = None
) -> Ready | StartPoint:
    """What to start with; the start point alone where its step is the last one already.

    Args:
        earlier: what an earlier look gave; its plan is taken where it was for the same checkpoint.

    Raises:
        SourceError, CorruptCheckpoint, OutputError, ConfigError, GraphRefused: as ``start_point``
            and ``make_plan``.
    """
    start = start_point(config, output, record)
    if start.own_label is not None and start.step >= start.until:
        return start
    plan = (
        earlier.plan
        if earlier is not None and _point(start) == _point(earlier.start)
        else make_plan(as_recorded(config, record), start)
    )
    # The number in a stranger's file name needn't be the step: only the graph tells where that
    # stands
    start = counted(config, start, plan, record)
    if start.step >= start.until:
        return start
    slots = slots_of(config, plan.graph, record)
    return Ready(start, plan, policy_of(config, plan.graph, start.until, slots.count), slots)


def _point(start: StartPoint) -> tuple[object, ...]:
    return start.fingerprint, start.own_label, start.parent


def refuse_others_workers(
    config: RunConfig, output: Location, record: RunRecord, last: Mapping[str, Any]
) -> None:
    """Refuse to take over workers that train something else than this command asks for.

    The command that the dead driver had is taken at its word, so that a restarted driver needs
    nothing of the source.

    Args:
        last: the dead driver's configuration, without secrets.

    Raises:
        OutputError: the output, and so the workers, belong to another source; names both.
        ConfigError: they were made with other settings; names those.
        SourceError, CorruptCheckpoint, StorageUnavailable: the source is named otherwise and can't
            be read.
    """
    now: Mapping[str, Any] = redacted_data(config.model_dump(mode="json"))
    if any(last.get(key) != now[key] for key in ("source", "from_step")):
        named = resolve_source(named_source(config))
        check_same_source(output, record, named.url, source_fingerprint(named))
    others = sorted(key for key in now.keys() & last.keys() - DRIVER_ONLY if now[key] != last[key])
    if others:
        told = "; ".join(f"{key} is {now[key]!r} here and {last[key]!r} there" for key in others)
        raise ConfigError(
            f"workers of a driver that died still train {output.shown} with other settings: {told}",
            remedy="Give the same settings to go on with them, or end them with `tfresume stop`; without a driver they end by themselves "
            f"within {config.orphan_timeout_s:g} s",
            details={"settings": others},
        )
