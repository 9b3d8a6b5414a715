"""Are saves to which every rank gives its rows committed whole, under seeded schedules of parts that
are lost, late, told twice or refused?

A failing seed prints itself: ``parted_saves.play(name, seed)`` replays it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import events as ev
from orchestrator.decide import progress, save_parts, save_policy, save_under_way
from orchestrator.decide.actions import Outcome
from orchestrator.decide.facts import saves
from orchestrator.decide.facts.table import HANDLERS
from orchestrator.decide.rules import saving
from tests.simulation.parted_saves import SCHEDULES, play
from tests.simulation.parts import Broken

SEEDS = 4
SEEDS_AT_MOST = 12  # until what a schedule is named for has happened


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_run_that_saves_in_parts_ends_with_its_last_step_saved_whole(name: str) -> None:
    _, _, parts, missed = SCHEDULES[name]
    missed = missed | {kind for kind, probability in vars(parts).items() if probability}
    for seed in range(SEEDS_AT_MOST):
        if seed >= SEEDS and not missed:
            break
        world = play(name, seed)
        assert world.finish is not None
        assert world.finish.outcome is Outcome.DONE, f"seed {seed}: {world.finish}"
        assert max(world.committed) == world.rules.until, f"seed {seed}"
        missed = missed - world.happened - {str(event["event"]) for event in world.journal}
    assert not missed, f"the schedule doesn't do what its name says: {missed}"


REAL_PUT_TOGETHER = saving.put_together


def not_waiting(patch: pytest.MonkeyPatch) -> None:
    """A save is over once the writer has told its part, and nobody looks for the others'."""

    def written(turn: Any, event: Any) -> None:
        saves.on_written(turn, event)
        if turn.run.written is event:
            _await_nobody(turn)

    patch.setattr(save_parts, "amiss", lambda parts, ranks: "")
    patch.setitem(HANDLERS, ev.SaveWritten, written)


def _await_nobody(turn: Any) -> None:
    turn.set(expected=type(turn.run.expected)())


def one_missing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        saving,
        "put_together",
        lambda written, parts: REAL_PUT_TOGETHER(
            written, {rank: part for rank, part in parts.items() if rank != 1}
        ),
    )


def twice_for_two(patch: pytest.MonkeyPatch) -> None:
    """What comes twice stands for what doesn't come: parts are counted, not told apart."""

    def checked(turn: Any, event: Any) -> None:
        known = turn.run.parts
        saves.on_checked(turn, event)
        if event.part is not None and known.get(event.part.rank) is event.part:
            lacking = set(range(turn.run.world_size)) - set(known)
            stands_for = dict.fromkeys(sorted(lacking)[:1], event.part)
            turn.set(parts=type(known)({**known, **stands_for}))
            _await_nobody(turn)

    patch.setattr(save_parts, "amiss", lambda parts, ranks: "")
    patch.setitem(HANDLERS, ev.SaveChecked, checked)


def any_save(patch: pytest.MonkeyPatch) -> None:
    """A part is taken for one of the save under way, whichever save it's of and at whatever step."""
    patch.setattr(saves, "_is_under_way", lambda turn, event: turn.run.saves.in_flight is not None)
    patch.setattr(saves, "_is_due", lambda flight, told, agreed: told is not None)
    patch.setattr(save_parts, "amiss", lambda parts, ranks: "")
    # Or the checksums of what isn't divided would tell
    patch.setattr(save_policy, "differing", lambda digests: ())


def alone(patch: pytest.MonkeyPatch) -> None:
    """The save is told as one that one rank writes."""
    real = save_under_way.send

    def send(turn: Any, *given: Any) -> None:
        real(turn, *given)
        turn.actions[-1] = replace(turn.actions[-1], parts=0)

    patch.setattr(save_under_way, "send", send)


def no_time_to_stand(patch: pytest.MonkeyPatch) -> None:
    """Who stands still until its rows are sent gets no more time than who does nothing."""
    patch.delitem(progress.STILL_S, ev.Doing.SAVING)


BUGS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "nobody waits for the parts": ("calm", not_waiting),
    "one part is left out": ("calm", one_missing),
    "parts are counted": ("parts that come twice", twice_for_two),
    "another save's part is taken": ("parts that come twice", any_save),
    "told as a whole one": ("calm", alone),
    "who stands still is hung": ("ranks that stand still", no_time_to_stand),
}
CAUGHT = {
    "nobody waits for the parts": "lacks a rank's rows",
    "one part is left out": "lacks a rank's rows",
    "parts are counted": "lacks a rank's rows",
    "another save's part is taken": "rows are of different steps",
    "told as a whole one": "in as many parts as there are ranks",
    "who stands still is hung": "somebody was called hung who wasn't",
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_in_saves_in_parts_is_caught_by_its_invariant(
    bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule, plant = BUGS[bug]
    plant(monkeypatch)
    told: list[str] = []
    for seed in range(60):
        try:
            play(schedule, seed)
        except Broken as broken:
            told.append(str(broken))
            if re.search(CAUGHT[bug], told[-1]):
                return
    pytest.fail(f"caught {len(told)} times, never by this invariant: {told[:3]}")
