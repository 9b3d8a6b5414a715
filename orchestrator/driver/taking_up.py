"""Once the lease is held: does this driver start workers, or go on with those of one that died?

Rule: living workers are asked first, since their state is newer than any checkpoint; where none
answers, what to start with is looked at again, as another driver may have committed something until
the lease was taken.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace

from orchestrator.decide import machine
from orchestrator.decide.events import Found
from orchestrator.decide.last_step import last_step
from orchestrator.driver.attempt import Attempt, Continuation
from orchestrator.driver.beginning import Ready, prepared, refuse_others_workers
from orchestrator.driver.claim import Claim
from orchestrator.driver.edited_graph import source_loading
from orchestrator.driver.inbox import Inbox
from orchestrator.driver.observer import Observers
from orchestrator.driver.proof import Proof
from orchestrator.driver.restorable import files_of
from orchestrator.driver.result import RunResult, ended_before_it_began
from orchestrator.driver.slots import scale_of, surplus_note, weight_of
from orchestrator.driver.startup import StartPoint, policy_of, setup_of, step_key_of
from orchestrator.errors import OutputError
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.pointing import set_pointer
from orchestrator.store.objects.exclusive import weaker_promise
from orchestrator.store.objects.layout import CHANGED_SUFFIX
from orchestrator.store.objects.location import Location
from orchestrator.store.run.run_record import RunRecord, create_run_record, read_run_record
from orchestrator.workers.adopting import take_over
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.namespace import end_run, living_workers, namespace_of
from orchestrator.workers.orders import Setup
from orchestrator.workers.placement import Placement, reserved

log = logging.getLogger("tfresume")

SECRET_BYTES = 32
"""What the workers of one life of the group prove to each other; they hand it on to those who come
later, and nothing records it. As long as the hash of their proof (SHA-256): RFC 2104, section 3,
advises against shorter keys, and longer ones add nothing.
"""


def begin(
    claim: Claim,
    ready: Ready | None,
    record: RunRecord | None,
    proof: Proof | None,
    observers: Observers,
    inbox: Inbox,
) -> RunResult:
    """Run to the end. Nobody else changes the output or commands its workers from now on.

    Args:
        ready: what was found before the lease was held; None where workers lived.
        record: the run's, as it was then.
        proof: what the trial of the group's first step showed.
    """
    output = claim.output
    if claim.attempt > 1 or ready is None:
        record = read_run_record(output)
        if record is not None and living_workers(namespace_of(output.url)):
            result = _adopt(claim, record, observers, inbox)
            if result is not None:
                return result
        again = prepared(claim.config, output, record, ready)
        if isinstance(again, StartPoint):
            claim.lease.confirm()
            end_run(output.url)  # its last driver died when all was saved
            set_pointer(output, lease=claim.lease)
            return ended_before_it_began(output.shown, again)
        ready = again
    return _start(claim, ready, record, proof, observers, inbox)


def tidy(claim_on: Callable[[], Claim], output: Location, label: str | None) -> None:
    """Finish what the last driver of a run that has reached its end didn't live to do: give its
    places back, and point TensorFlow at the newest checkpoint, whose ``label`` this is. Nobody else
    ever would; who lives and holds the run does it himself.
    """
    if reserved(namespace_of(output.url)) or read_pointer(output) != label:
        try:
            with claim_on() as claim:
                claim.lease.confirm()
                end_run(output.url)
                set_pointer(output, lease=claim.lease)
        except OutputError as error:
            log.warning("what the last driver of %s left stays: %s", output.shown, error)


def _start(
    claim: Claim,
    ready: Ready,
    record: RunRecord | None,
    proof: Proof | None,
    observers: Observers,
    inbox: Inbox,
) -> RunResult:
    """Start workers from a checkpoint."""
    config, output, start, plan = claim.config, claim.output, ready.start, ready.plan
    scheduler = claim.scheduler
    record = create_run_record(output, _first_record(claim, ready, record, proof))
    files = replace(files_of(start.source, plan.step), of_source=start.own_label is None)
    secret = secrets.token_bytes(SECRET_BYTES)
    left = living_workers(namespace_of(output.url))
    # A driver that slept since it took the lease would end its successor's
    claim.lease.confirm()
    end_run(output.url)  # what an earlier driver left and couldn't be taken over holds resources
    fleet = _fleet(
        claim,
        inbox,
        lambda: setup_of(config, plan.graph, output, record, files, ready.slots, secret),
        one_loads=plan.is_completed and not plan.graph.tables,
    )
    run, actions = machine.begin(
        ready.policy,
        Found(plan.step, files.position, label=start.source.label),
        plan.step if start.own_label else None,
        claim.past.budgets(config.max_losses_per_hour, scheduler.monotonic(), scheduler.unix()),
        claim.past.last_generation,
        scheduler.monotonic(),
        claim.past.next_worker(left),
        claim.past.left_behind(scheduler.unix()),
        changes=bool(start.source.links),
    )
    continuation = Continuation(
        record=record,
        step_key=plan.step_key,
        repairs=plan.graph.repairs,
        edits=plan.graph.edits,
        loading=plan.graph.loading
        if start.own_label is None
        else source_loading(plan.graph.loading, record.config),
        start_step=start.step,
        until=start.until,
        label=start.own_label,
        parent=start.parent,
        files=files,
        adopted=False,
        batches_per_step=ready.slots.count,
        proof=record.proof if proof is None else proof.record(),
        warnings=_warnings(claim, ready),
    )
    with Attempt(claim, continuation, run, fleet, observers, inbox) as attempt:
        return attempt.play(actions)


def _first_record(
    claim: Claim, ready: Ready, record: RunRecord | None, proof: Proof | None
) -> RunRecord:
    """What the run's record says where this is its first start; a record that's there stands."""
    config, start = claim.config, ready.start
    return RunRecord(
        source=start.source.url if record is None else record.source,
        fingerprint=start.fingerprint,
        name=start.source.name,
        started_step=ready.plan.step,
        config=config.model_dump(mode="json"),
        created=claim.scheduler.unix(),
        batches_per_step=ready.slots.first,
        gradient_scale=scale_of(config, record),
        weight_by=weight_of(config, record),
        shard_tables=ready.plan.graph.tables.names,
        table_copies=ready.plan.graph.tables.copies,
        proof=None if proof is None else proof.record(),
    )


def _warnings(claim: Claim, ready: Ready) -> tuple[str, ...]:
    told = (
        *claim.past.damaged,
        *ready.start.warnings,
        *ready.plan.warnings,
        weaker_promise(claim.output),
        surplus_note(claim.config, ready.slots),
    )
    return tuple(text for text in told if text)


def _adopt(claim: Claim, record: RunRecord, observers: Observers, inbox: Inbox) -> RunResult | None:
    """Go on with the workers of a driver that died; None where none of them answers."""
    config, output, past, scheduler = claim.config, claim.output, claim.past, claim.scheduler
    refuse_others_workers(config, output, record, past.last_config)
    until = last_step(config.until_step, config.steps, record.started_step)
    living = take_over(namespace_of(output.url), claim.attempt, claim.lease.confirm)
    if living.setup is None:
        return None
    setup, reports = living.setup, living.reports
    fleet = _fleet(claim, inbox, lambda: setup, one_loads=not setup.graph.tables)
    fleet.adopt(living, past.places)
    slots = None if setup.options.exchange == "nccl" else setup.options.batches_per_step
    run, actions = machine.adopt(
        policy_of(config, setup.graph, until, slots),
        reports,
        past.newest_step,
        past.budgets(config.max_losses_per_hour, scheduler.monotonic(), scheduler.unix()),
        past.last_generation,
        past.next_worker(living.names),
        scheduler.monotonic(),
        past.rolled_back,
        past.left_behind(scheduler.unix()),
        changes=(past.newest_label or "").endswith(CHANGED_SUFFIX),
    )
    continuation = Continuation(
        record=record,
        step_key=step_key_of(setup.graph),
        repairs=setup.graph.repairs,
        edits=setup.graph.edits,
        loading=source_loading(setup.graph.loading, record.config),
        start_step=max(
            (report.step for report in reports if report.step is not None),
            default=record.started_step,
        ),
        until=until,
        label=past.newest_label,
        parent=None,
        files=None,
        adopted=True,
        batches_per_step=slots,
        proof=record.proof,
        warnings=past.damaged,
    )
    with Attempt(claim, continuation, run, fleet, observers, inbox) as attempt:
        return attempt.play(actions)


def _fleet(claim: Claim, inbox: Inbox, setup: Callable[[], Setup], *, one_loads: bool) -> Fleet:
    """Commands the workers of this output for as long as nobody can have taken it over.

    Args:
        one_loads: a checkpoint may have to be completed, by one of them for all.
    """
    namespace = namespace_of(claim.output.url)
    return Fleet(
        namespace,
        claim.attempt,
        Placement(namespace, claim.config.workers),
        inbox.put,
        setup,
        lambda: claim.lease.is_fresh,
        one_loads,
        claim.scheduler,
    )
