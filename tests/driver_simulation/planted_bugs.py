"""Which bugs are planted in the product, each for an invariant of the simulated world to catch?

Rule: the invariant's words, then the kind of schedules in which the bug shows, and the bug.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from launch.runs import status as status_module
from launch.runs.status_model import Driver
from orchestrator.decide import (
    budgets,
    crew,
    holding,
    incidents,
    machine,
    retention,
    row_moves,
    save_policy,
    save_under_way,
)
from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.facts import ends, members
from orchestrator.decide.facts.table import HANDLERS
from orchestrator.decide.rules import ending
from orchestrator.driver import restorable, storage_thread
from orchestrator.driver.past import Past
from orchestrator.errors import OrchestratorError
from orchestrator.journal.folding import frozen
from orchestrator.store.checkpoints import chain_source, commits, verification
from orchestrator.store.checkpoints import retention as deleting
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.run import lease, snapshots
from orchestrator.store.run.journal import Journal
from orchestrator.training.state.written_rows import WrittenRows
from orchestrator.workers.actor import WorkerActor
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.mailbox import Mailbox
from orchestrator.workers.member import Member
from orchestrator.workers.placement import Placement
from tests.driver_simulation import world as world_module
from tests.driver_simulation.truth_of_output import OutputTruth

Patch = pytest.MonkeyPatch


def obeys_anybody(worker: Any, attempt: int) -> None:
    worker._attempt, worker._contact_s = attempt, worker.world.schedule.now_s


def never_spoken_to(worker: Any, attempt: int) -> None:
    worker._attempt = max(worker._attempt, attempt)


REAL_HELD, REAL_NEWEST, REAL_FLUSH = Member.held_state, restorable.files_of, Journal.flush
REAL_COMMIT, REAL_SHALLOW, REAL_STATUS = (
    commits.commit,
    chain_source.newest_state,
    world_module.status,
)
REAL_FROM, REAL_CLOSE, REAL_MOVES = crew._state_from, Fleet.close, row_moves.moves


def spoilt_state(member: Member) -> Any:
    held = REAL_HELD(member)
    if held is None:
        return None
    state = replace(held.state, chain=held.state.chain + 1)
    return replace(held, state=state, digests={"chain": state.chain})


def without_checksums(found_: Any, step: int | None = None) -> Any:
    found = REAL_NEWEST(found_, step)
    return replace(found, files=tuple(replace(file, crc32c=None) for file in found.files))


def copies_a_step_late(mailbox: Mailbox, step: int, order: Any) -> bool:
    assert mailbox.order is not None
    return step + mailbox.order.rank <= (mailbox.step or 0)


def lives_only_when_idle(member: Member, after: int, polled: Any, pulse_s: float) -> Any:
    """What has happened is told without how far the worker is."""
    return polled if polled[1] else REAL_LIFE(member, after, polled, pulse_s)


REAL_LIFE = Member.with_life


def forgetful(journal: Journal) -> None:
    try:
        REAL_FLUSH(journal)
    except OrchestratorError:
        journal._sealed = None
        raise


def keeps_the_oldest(checkpoints: Any, **settings: Any) -> Any:
    labels = tuple(item.label for item in checkpoints)
    return retention.Retention(labels[-1:], labels[:-1], {})


def lies(output: Any, manifest: Any, **others: Any) -> None:
    """It commits nothing, and says nothing of it."""


def renamed(output: Any, manifest: Any, **others: Any) -> Any:
    return REAL_COMMIT(output, manifest.model_copy(update={"step": manifest.step + 1}), **others)


def never_takes(watch: Any, sight: Any, now_s: float) -> Any:
    hold, seen = REAL_LOOK(watch, sight, now_s)
    silent = sight.number and not (sight.released or sight.dead)
    return (holding.Hold.WAIT if silent and hold is holding.Hold.TAKE else hold), seen


REAL_LOOK = holding.look


def keeps_its_own(run: Any, worker: Any, best: Any, *, given: bool) -> StateFrom:
    """Also one that is behind keeps what it has."""
    has = worker.step is not None
    return StateFrom.OWN if has else REAL_FROM(run, worker, best, given=given)


def takes_nothing(have: Any, seats: Any, copies: int) -> Any:
    """Whoever lacks rows is told of nobody who has them."""
    return None if REAL_MOVES(have, seats, copies) is None else tuple(() for _ in seats)


def ends_its_successors(fleet: Fleet, *, kill: bool) -> None:
    """A driver that was fenced ends the workers all the same."""
    REAL_CLOSE(fleet, kill=True)


def always_holds(fleet: Fleet, *, kill: bool) -> None:
    """A fleet that ends workers as soon as it's told to."""
    fleet._holds = lambda: True
    REAL_CLOSE(fleet, kill=kill)


def twice_as_many(run: Any, incident: Any, now_s: float | None) -> Any:
    found = REAL_RECORD(run, incident, now_s)
    return replace(found, steps_redone=found.steps_redone + 5)


REAL_RECORD, REAL_TAKEN_OVER = incidents.incident_record, machine._taken_over


def ends_with_its_group(turn: Any, event: ev.Held) -> None:
    """Whoever stops, its input is taken to be at its end."""
    members.on_held(turn, event)
    ends.on_data_ended(turn, ev.DataEnded(event.worker, event.generation, event.step or 0))


def ends_silently(turn: Any) -> None:
    """The run ends at once, and nobody is told what became of the save under way."""
    turn.set(saves=replace(turn.run.saves, in_flight=None))
    ending.finish(turn)


def loses_silently(turn: Any, reason: str) -> None:
    """Nobody is told that a save's writer is gone."""
    turn.set(
        saves=replace(turn.run.saves, in_flight=None, owed=True), expected=type(turn.run.expected)()
    )


def begins_anew(*found: Any) -> Any:
    """What the members of a group that is taken over were granted isn't asked."""
    run = REAL_TAKEN_OVER(*found)
    return replace(run, granted_end=run.step, granted_position=run.position)


def never_the_last(policy: Any, log: Any, *, last: bool) -> int:
    """A run may end with changed rows."""
    return REAL_GROUND(policy, log, last=False)


REAL_GROUND = save_policy.ground_of


def forgets_what_was_lost(written: Any, save: Any, over: Any, share: Any) -> Any:
    """What was written before the copy for a save that was lost counts for saved."""
    if over in written._since:
        written._since = {over: written._since[next(reversed(written._since))]}
    return REAL_CHANGED(written, save, over, share)


REAL_CHANGED = WrittenRows.changed
DEATHS, WAKING, KILLS = (
    "drivers that die with their machine",
    "drivers that wake up",
    "workers that die",
)
SHORT = "drivers that die while steps are short"
BUGS: dict[str, tuple[str, Callable[[Patch], Any]]] = {
    "neither ended nor waited within bounds": (
        DEATHS,
        lambda patch: patch.setattr(lease, "look", never_takes),
    ),
    "losses weren't paid for": (
        DEATHS,
        lambda patch: patch.setattr(
            budgets, "from_journal", lambda events, limit, *_: Budgets(limit)
        ),
    ),
    "the training of earlier attempts was forgotten": (
        DEATHS,
        lambda patch: patch.setattr(Past, "trained_s", 0.0),
    ),
    "that another has followed ended a worker": (
        WAKING,
        lambda patch: (
            patch.setattr(lease.Lease, "is_fresh", True),
            patch.setattr(Fleet, "close", ends_its_successors),
        ),
    ),
    "obeyed a driver after it had obeyed the next one": (
        WAKING,
        lambda patch: patch.setattr(WorkerActor, "_obey", obeys_anybody),
    ),
    "the name of a worker was used twice": (
        DEATHS,
        lambda patch: patch.setattr(Past, "next_worker", lambda past, living: 1),
    ),
    "took it for dead": (
        "calm",
        lambda patch: patch.setattr(WorkerActor, "_obey", never_spoken_to),
    ),
    "the members of a group differ": (
        "a group that shrinks and grows",
        lambda patch: patch.setattr(crew, "_state_from", keeps_its_own),
    ),
    "a step was taken with the rows of another rank": (
        "tables that are divided",
        lambda patch: patch.setattr(crew, "_rows_stay", lambda run, seats, states: True),
    ),
    "rows were trained that came from nobody who had them": (
        "tables of which two hold each row",
        lambda patch: patch.setattr(row_moves, "moves", takes_nothing),
    ),
    "a step was taken from a state that nobody ever had": (
        KILLS,
        lambda patch: patch.setattr(Member, "held_state", spoilt_state),
    ),
    "a checkpoint that is bad was trusted|a damaged checkpoint was trusted": (
        "checkpoints that rot",
        lambda patch: (
            patch.setattr(restorable, "files_of", without_checksums),
            patch.setattr(
                restorable,
                "newest_state",
                lambda output, exclude, deep: REAL_SHALLOW(output, exclude=exclude),
            ),
            patch.setattr(verification, "check_sample", lambda item, *_: item.step_in_name),
        ),
    ),
    "a checkpoint was committed that isn't the run's state": (
        "calm",
        lambda patch: (
            patch.setattr(storage_thread, "commit", renamed),
            # Which would find that the other step's files aren't there
            patch.setattr(commits, "_check_files", lambda *_: None),
        ),
    ),
    "the newest good checkpoint was deleted": (
        "calm",
        lambda patch: patch.setattr(deleting, "retention", keeps_the_oldest),
    ),
    "a checkpoint was deleted to which TensorFlow is pointed": (
        "calm",
        lambda patch: (
            patch.setattr(deleting, "retention", keeps_the_oldest),
            patch.setattr(deleting, "point", lambda *_: None),
            patch.setattr(OutputTruth, "_is_good", lambda truth, label: False),
        ),
    ),
    "TensorFlow isn't pointed at the newest checkpoint": (
        "calm",
        lambda patch: (
            patch.setattr(commits, "set_pointer", lambda output, *_: list_checkpoints(output)),
            patch.setattr(storage_thread, "retain", lambda *_, **__: None),
        ),
    ),
    "committed that isn't the run's state": (
        "changed rows",
        lambda patch: patch.setattr(WrittenRows, "changed", forgets_what_was_lost),
    ),
    "done and its last step isn't saved": (
        "changed rows",
        lambda patch: (
            patch.setattr(save_policy.SaveLog, "ends_with", save_policy.SaveLog.holds),
            patch.setattr(save_policy, "ground_of", never_the_last),
        ),
    ),
    "a worker was taken to hang where none does": (
        "saves that follow each other closely",
        lambda patch: patch.setattr(Member, "with_life", lives_only_when_idle),
    ),
    "ranks were taken to differ that are equal": (
        "calm",
        lambda patch: patch.setattr(Mailbox, "_has", copies_a_step_late),
    ),
    "status shows a step that nobody took": (
        "calm",
        lambda patch: patch.setattr(world_module, "status", altered_status(step=10**6)),
    ),
    "status says that a run has ended which goes on": (
        "calm",
        lambda patch: patch.setattr(world_module, "status", altered_status(state="done")),
    ),
    "status shows a checkpoint that isn't one": (
        "calm",
        lambda patch: patch.setattr(world_module, "status", altered_status(checkpoint="m-1")),
    ),
    "status says of a driver that lives that it's dead": (
        "calm",
        lambda patch: patch.setattr(status_module, "shown_state", lambda *_: Driver.DEAD),
    ),
    "a worker lives on after the end of its run": (
        "calm",
        lambda patch: patch.setattr(Fleet, "close", lambda fleet, kill: None),
    ),
    "a place is reserved after the end of its run": (
        "calm",
        lambda patch: patch.setattr(Placement, "remove", lambda placement: None),
    ),
    "the run says done and its last step isn't saved": (
        "calm",
        lambda patch: patch.setattr(storage_thread, "commit", lies),
    ),
    "the journal tells otherwise than the driver that wrote it": (
        "a store that is away",
        lambda patch: patch.setattr(Journal, "flush", forgetful),
    ),
    "a snapshot says otherwise than the journal": (
        "checkpoints that rot",
        lambda patch: patch.setattr(snapshots, "frozen", lambda fold: frozen(type(fold)())),
    ),
    "the journal of a driver that ended lacks something": (
        "calm",
        lambda patch: patch.setattr(storage_thread.StorageThread, "close", lambda *_: None),
    ),
    "other steps are told as redone than were redone": (
        KILLS,
        lambda patch: patch.setattr(incidents, "incident_record", twice_as_many),
    ),
    "a save was agreed on while nobody knew what became of another": (
        KILLS,
        lambda patch: patch.setattr(save_under_way, "lose", loses_silently),
    ),
    "the run ended while nobody knew what became of a save": (
        "an input that ends",
        lambda patch: patch.setattr(ending, "end_gathered", ends_silently),
    ),
    "may run less far than a member was told before": (
        SHORT,
        lambda patch: patch.setattr(machine, "_taken_over", begins_anew),
    ),
    "the run ended elsewhere than where its input did": (
        "an input that ends",
        lambda patch: patch.setitem(HANDLERS, ev.Held, ends_with_its_group),
    ),
}


def altered_status(**changes: Any) -> Any:
    return lambda *run, **clocks: replace(REAL_STATUS(*run, **clocks), **changes)
