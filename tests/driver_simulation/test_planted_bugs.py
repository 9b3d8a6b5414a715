"""Does each invariant of the simulated world catch the bug that it's there for?"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.runs import status as status_module
from launch.runs.status_model import Driver
from orchestrator.decide import budgets, crew, holding, incidents, retention
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.budgets import Budgets
from orchestrator.driver import restorable, storage_thread
from orchestrator.driver.past import Past
from orchestrator.errors import OrchestratorError
from orchestrator.store.checkpoints import commits, source, verification
from orchestrator.store.checkpoints import retention as deleting
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.run import lease
from orchestrator.store.run.journal import Journal
from orchestrator.workers.actor import WorkerActor
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.mailbox import Mailbox
from orchestrator.workers.member import Member
from orchestrator.workers.placement import Placement
from tests.driver_simulation import truth as truth_module
from tests.driver_simulation import world as world_module
from tests.driver_simulation.kinds import KINDS, world_of
from tests.driver_simulation.shrinking import shrunk
from tests.driver_simulation.world import Faults, World
from tests.simulation.parts import Broken

SEEDS = 8
Patch = pytest.MonkeyPatch


def obeys_anybody(worker: Any, attempt: int) -> None:
    worker._attempt, worker._contact_s = attempt, worker.world.schedule.now_s


def never_spoken_to(worker: Any, attempt: int) -> None:
    worker._attempt = max(worker._attempt, attempt)


REAL_HELD, REAL_NEWEST, REAL_FLUSH = Member.held_state, restorable.files_of, Journal.flush
REAL_COMMIT, REAL_SHALLOW, REAL_STATUS = commits.commit, source.newest_source, world_module.status
REAL_FROM, REAL_CLOSE = crew.state_from, Fleet.close


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


def keeps_its_own(run: Any, seats: Any, ident: str, chosen: str | None) -> StateFrom:
    """Also one that is behind keeps what it has."""
    has = chosen is not None and run.workers[ident].step is not None
    return StateFrom.OWN if has else REAL_FROM(run, seats, ident, chosen)


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


REAL_RECORD = incidents.incident_record
DEATHS, WAKING, KILLS = (
    "drivers that die with their machine",
    "drivers that wake up",
    "workers that die",
)
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
        lambda patch: patch.setattr(crew, "state_from", keeps_its_own),
    ),
    "a step was taken with the rows of another rank": (
        "tables that are divided",
        lambda patch: patch.setattr(crew, "rows_stay", lambda run, chosen: True),
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
                "newest_source",
                lambda output, exclude, deep: REAL_SHALLOW(output, exclude=exclude),
            ),
            patch.setattr(verification, "check_sample", lambda item, *_: item.step_in_name),
        ),
    ),
    "a checkpoint was committed that isn't the run's state": (
        "calm",
        lambda patch: patch.setattr(storage_thread, "commit", renamed),
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
            patch.setattr(truth_module.Truth, "_is_good", lambda truth, label: False),
        ),
    ),
    "TensorFlow isn't pointed at the newest checkpoint": (
        "calm",
        lambda patch: (
            patch.setattr(commits, "set_pointer", lambda output, *_: list_checkpoints(output)),
            patch.setattr(storage_thread, "retain", lambda *_, **__: None),
        ),
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
    "the journal of a driver that ended lacks something": (
        "calm",
        lambda patch: patch.setattr(storage_thread.StorageThread, "close", lambda *_: None),
    ),
    "other steps are told as redone than were redone": (
        KILLS,
        lambda patch: patch.setattr(incidents, "incident_record", twice_as_many),
    ),
}


def altered_status(**changes: Any) -> Any:
    return lambda *run, **clocks: replace(REAL_STATUS(*run, **clocks), **changes)


@pytest.mark.slow
@pytest.mark.turns(3)
@pytest.mark.parametrize("invariant", BUGS)
def test_planted_bug_is_caught_by_its_invariant(invariant: str, monkeypatch: Patch) -> None:
    kind, plant = BUGS[invariant]
    plant(monkeypatch)
    told: list[str] = []
    for seed in range(SEEDS):
        # What one seed shows as another invariant's breach, the next may show as this one's
        try:
            world_of(kind, seed).play()
        except Broken as broken:
            told.append(str(broken))
            if re.search(invariant, told[-1]):
                return
    pytest.fail(f"caught {len(told)} times, never by this invariant: {told[:3]}")


def test_every_invariant_has_a_planted_bug() -> None:
    """The messages of the world's checks against those that the tests above expect."""
    messages = []
    for module in (truth_module, world_module):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        messages += [
            ast.unparse(node.args[1])
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and (getattr(node.func, "attr", "") or getattr(node.func, "id", "")) == "check"
        ]
    planted = "|".join(BUGS)
    unproved = [
        message for message in messages if not re.search(planted, message.replace("\\", ""))
    ]
    assert len(messages) >= 20
    assert not unproved, f"no planted bug shows that these can fail: {unproved}"


@pytest.mark.slow
def test_driver_that_knows_that_it_was_followed_ends_nobody_whatever_its_fleet_would_do(
    monkeypatch: Patch,
) -> None:
    monkeypatch.setattr(Fleet, "close", always_holds)
    fired: set[str] = set()
    for seed in range(SEEDS):
        world = world_of(WAKING, seed)
        world.play()
        fired |= world.fired
    assert "fenced" in fired


def test_failing_schedule_is_shrunk_to_the_faults_that_it_needs(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Member, "held_state", spoilt_state)
    faults = Faults(kill_s=6.0, outage_s=50.0, skew_s=100.0)

    def fails(fewer: Faults) -> bool:
        try:
            World(1, fewer).play()
        except Broken:
            return True
        return False

    assert fails(faults)
    fewer = shrunk(faults, fails)
    assert (fewer.kill_s, fewer.outage_s, fewer.skew_s) == (6.0, 0.0, 0.0)
    assert fewer.until_s < faults.until_s


def test_kinds_of_the_planted_bugs_are_those_that_are_played() -> None:
    assert {kind for kind, _ in BUGS.values()} <= set(KINDS)
