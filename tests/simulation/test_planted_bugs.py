"""Does each invariant of the simulation catch the bug that it's there for?"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import crew, machine, progress, recovery, save_policy, save_under_way
from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.facts import members, store
from orchestrator.decide.facts.table import HANDLERS
from orchestrator.decide.rules import ending, gathering, granting, searching
from orchestrator.journal.group_events import RollingBack
from tests.simulation.altered_answers import ALTERED, altering
from tests.simulation.parts import (
    Broken,
    SimWorker,
    policy,
)
from tests.simulation.schedules import ENDS, SCHEDULES
from tests.simulation.test_saves_in_parts import CAUGHT
from tests.simulation.world import World


def lowest_donor(order: Any, steps: Any, *, differing: bool = False) -> str | None:
    holders = [(step, worker) for worker, step in steps.items() if step is not None]
    return min(holders)[1] if holders else None


def shortened(turn: Any, end: int, position: int) -> None:
    if any(isinstance(action, act.Grant) for action in turn.actions):
        return  # else the rules would never come to rest
    turn.set(granted_end=turn.run.step - 1)
    save_under_way.send(turn, turn.run.members, end, position)


def own_state_for_all(*_: Any, given: bool) -> StateFrom:
    return StateFrom.OWN


def forgetting(budgets: Budgets, *loss: Any) -> Budgets:
    return (
        replace(budgets, entries=budgets.entries[1:])
        if budgets.entries
        else REAL_SPEND(budgets, *loss)
    )


def deaf(patch: pytest.MonkeyPatch) -> None:
    for event in (ev.Held, ev.Tick):
        patch.setitem(HANDLERS, event, lambda turn, event: None)


def back_in_name_only(turn: Any) -> None:
    turn.set(rolling_back=False)
    turn.note(RollingBack(step=turn.run.rolled_back_from, generation=turn.run.generation))


REAL_SPEND = Budgets.spend


def lying_about_position(run: Any, event: Any, now_s: float) -> Any:
    run, actions = machine.advance(run, event, now_s)
    wrong = [
        replace(action, position=action.position + 1) if isinstance(action, act.Form) else action
        for action in actions
    ]
    return run, tuple(wrong)


@pytest.mark.parametrize("invariant", ALTERED)
def test_altered_answer_is_caught_by_its_invariant(invariant: str) -> None:
    schedule, change = ALTERED[invariant]
    with pytest.raises(Broken, match=invariant):
        worlds(World, schedule, advance=altering(change))


class Unfenced(World):
    """A commit of a dead driver still reaches the store."""

    def do_Commit(self, action: act.Commit) -> None:
        attempt = self.attempt
        self.at(5.0, lambda: self.check(attempt == self.attempt, "two writers"))
        super().do_Commit(action)


class Garbled(World):
    """A donor's state changes on its way."""

    def join(self, worker: SimWorker, seat: act.Seat, *rest: Any) -> None:
        super().join(worker, seat, *rest)
        if worker.joined and seat.state_from is StateFrom.DONOR:
            assert worker.state is not None
            worker.state = replace(worker.state, chain=worker.state.chain + 1)


class Rotten(World):
    """What is committed isn't what was trained."""

    def do_Commit(self, action: act.Commit) -> None:
        state = replace(action.written.files[0], chain=1)
        super().do_Commit(replace(action, written=replace(action.written, files=(state,))))


class Forgetful(World):
    """The store doesn't find what was committed."""

    def do_FindCheckpoint(self, action: act.FindCheckpoint) -> None:
        self.soon(ev.Found(0, 0), 0.3)


def worlds(world: type[World], schedule: str, **changes: Any) -> None:
    shape, faults = SCHEDULES[schedule] if schedule in SCHEDULES else ENDS[schedule][:2]
    for seed in range(60):
        world(seed, policy(**shape), faults, **changes).play()


Plant = Callable[[pytest.MonkeyPatch], Any]
BUGS: dict[str, tuple[str, Plant]] = {
    "a survivor had is lost": (
        "kills without a standby",
        lambda patch: patch.setattr(recovery, "donor", lowest_donor),
    ),
    "a grant was shortened": (
        "kills with a standby",
        lambda patch: patch.setattr(granting, "_send", shortened),
    ),
    "from a state that nobody has|that differs": (
        "kills with a standby",
        lambda patch: patch.setattr(crew, "_state_from", own_state_for_all),
    ),
    "neither ended nor waited": ("shrink for good", deaf),
    "a budget grew": (
        "kills with a standby",
        lambda patch: patch.setattr(Budgets, "spend", forgetting),
    ),
    "storage is read though somebody has the state": (
        "kills with a standby",
        lambda patch: patch.setattr(recovery, "donor", lambda order, steps, *, differing: None),
    ),
    "a process whose group broke is formed again": (
        "processes replaced",
        lambda patch: patch.setattr(gathering, "_use_up", lambda turn: None),
    ),
    "a worker that a save counts on was ended": (
        "slow writes and notices",
        lambda patch: patch.setattr(save_under_way, "counts_on", lambda run, worker: False),
    ),
    "somebody was called hung who wasn't": (
        "slow copies",
        lambda patch: patch.setattr(progress, "is_moving", lambda run, worker, now_s: False),
    ),
    "it goes on from a state that it rolled back from": (
        "a place that makes NaN once",
        lambda patch: patch.setattr(searching, "roll_back", back_in_name_only),
    ),
    "what no try can help is tried again": (
        "a graph that doesn't fit",
        lambda patch: patch.setattr(members, "_cannot_help", lambda turn, event: None),
    ),
    "a checkpoint that was found damaged twice is taken again": (
        "damaged checkpoints",
        lambda patch: patch.setattr(store, "accuse", lambda turn, detail: turn.set(origin=None)),
    ),
    "formations fail one after the other without a wait": (
        "store outages",
        lambda patch: patch.setattr(store, "back_off", lambda turn, reason: None),
    ),
    "a state on which the ranks differ was committed": (
        "bits that flip",
        lambda patch: patch.setattr(save_policy, "differing", lambda digests: ()),
    ),
    "a state that isn't finite was committed": (
        "NaN where the run is to stop",
        lambda patch: patch.setattr(
            save_policy, "judge", lambda *_, **__: save_policy.Verdict.COMMIT
        ),
    ),
    "the run ends without what it could have saved": (
        "an input that raises",
        lambda patch: patch.setattr(ending, "end_gathered", ending.finish),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("invariant", BUGS)
def test_planted_bug_is_caught_by_its_invariant(
    invariant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule, plant = BUGS[invariant]
    plant(monkeypatch)
    shape, faults = SCHEDULES[schedule] if schedule in SCHEDULES else ENDS[schedule][:2]
    told: list[str] = []
    for seed in range(60):
        # What one seed shows as another invariant's breach, the next may show as this one's
        try:
            World(seed, policy(**shape), faults).play()
        except Broken as broken:
            told.append(str(broken))
            if re.search(invariant, told[-1]):
                return
    pytest.fail(f"caught {len(told)} times, never by this invariant: {told[:3]}")


def test_planted_bug_in_input_positions_is_caught() -> None:
    with pytest.raises(Broken, match="skipped or served twice"):
        worlds(World, "kills with a standby", advance=lying_about_position)


SPOILT: dict[str, tuple[type[World], str]] = {
    "ranks differ": (Garbled, "kills with a standby"),
    "isn't bit-identical": (Rotten, "kills with a standby"),
    "two writers": (Unfenced, "driver deaths"),
    "a committed step is lost": (Forgetful, "kills with a standby"),
}


@pytest.mark.parametrize("invariant", SPOILT)
def test_spoilt_world_is_caught_by_its_invariant(invariant: str) -> None:
    world, schedule = SPOILT[invariant]
    with pytest.raises(Broken, match=invariant):
        worlds(world, schedule)


def test_every_invariant_has_a_planted_bug() -> None:
    """The messages of the world's checks against those that the tests above expect."""
    calls = [
        node
        for path in sorted(Path(__file__).parent.glob("*.py"))
        if not path.name.startswith("test_")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "check"
    ]
    said = [call.args[1] for call in calls]
    messages = [ast.unparse(what) for what in said if not isinstance(what, ast.Name)]  # passed on
    expected = [*BUGS, *ALTERED, *SPOILT, *CAUGHT.values(), "skipped or served twice"]
    planted = "|".join(expected)
    unproved = [message for message in messages if not re.search(planted, message)]
    assert len(messages) >= 26
    assert not unproved, f"no planted bug shows that these can fail: {unproved}"
