"""Does the run machine take every event in every phase, whatever it says?

The simulation plays worlds that could be. Here events come that nobody could have foreseen: of
workers that are gone, of generations that are past, twice, in any order. A failing seed prints
itself: ``Play(seed).go_on()`` replays it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine, reconcile
from orchestrator.decide.budgets import Budgets
from orchestrator.decide.facts.table import HANDLERS
from orchestrator.decide.phases import MOVES, IllegalMove, Phase
from orchestrator.decide.roster import Roster, Stage
from orchestrator.decide.rules import forming, reforming
from orchestrator.decide.run import Run
from orchestrator.decide.save_parts import SavedPart
from orchestrator.decide.turn import Turn
from tests.simulation.parts import policy

SHAPES: tuple[dict[str, Any], ...] = (
    {"count": 1},
    {"count": 2, "standby": 1, "save_steps": 3},
    {"count": 3, "smallest": 1, "largest": 4, "save_steps": 2},
    {"count": 2, "standby": 1, "in_place": False, "save_steps": 4},
    {"count": 2, "on_nonfinite": "rollback", "save_steps": 2, "batches_per_step": 2},
    {"count": 3, "smallest": 1, "on_loss": "shrink", "when_busy": "wait", "save_steps": 2},
    {"count": 3, "smallest": 1, "largest": 4, "save_steps": 2, "in_parts": True},
)
SEEDS = 400
EVENTS = 250
ERROR = {"kind": "UserCodeError", "message": "it raised"}
Maker = Callable[[random.Random, Run], ev.Event]


def somebody(draw: random.Random, run: Run) -> str:
    return draw.choice([*run.workers, *run.members, *run.members, "w9999"])


def generation(draw: random.Random, run: Run) -> int:
    flight = run.saves.in_flight
    about = [run.generation] * 5 + ([flight.generation] * 3 if flight else [])
    return draw.choice([*about, run.generation - 1, run.generation + 1])


def step(draw: random.Random, run: Run) -> int:
    flight = run.saves.in_flight
    about = [run.step, run.step + 1, run.granted_end, run.highest + 1, max(0, run.step - 3)]
    return draw.choice([*about, *([flight.step] * 5 if flight else [])])


def saved_part(draw: random.Random, run: Run) -> SavedPart | None:
    rank = draw.randrange(max(1, run.world_size) + 1)
    at, number = step(draw, run), draw.choice([0, run.saves.agreed, run.saves.agreed])
    return draw.choice([None, SavedPart(rank, at, 0, number, None, ())])


def sums(draw: random.Random) -> dict[str, int]:
    return {"v": draw.choice([1, 1, 1, 1, 1, 2])}


MAKERS: dict[type, Maker] = {
    ev.Warm: lambda r, run: ev.Warm(somebody(r, run), r.choice("ab"), 1, "x:1"),
    ev.Gone: lambda r, run: ev.Gone(
        somebody(r, run),
        r.choice(list(ev.Cause)),
        r.choice(["", "out of memory", f"no. {r.random()}"]),
        r.choice([None] * 8 + [ERROR]),
    ),
    ev.Progress: lambda r, run: ev.Progress(
        somebody(r, run),
        generation(r, run),
        step(r, run),
        r.choice(list(ev.Doing)),
        r.choice([0.0, 10.0]),
        moved_bytes=r.randrange(3),
    ),
    ev.Held: lambda r, run: ev.Held(
        somebody(r, run),
        generation(r, run),
        r.choice([None, step(r, run)]),
        r.randrange(9),
        "x:2",
        r.choice(["", "peer lost"]),
        8,
        r.randrange(2),
        r.random() < 0.5,
        r.random() < 0.5,
    ),
    ev.Joined: lambda r, run: ev.Joined(somebody(r, run), generation(r, run), step(r, run)),
    ev.JoinFailed: lambda r, run: ev.JoinFailed(
        somebody(r, run), generation(r, run), "no luck", r.choice(list(ev.Obstacle)), ERROR
    ),
    ev.UserFailed: lambda r, run: ev.UserFailed(
        somebody(r, run), generation(r, run), step(r, run), ERROR
    ),
    ev.DataEnded: lambda r, run: ev.DataEnded(somebody(r, run), generation(r, run), step(r, run)),
    ev.SaveWritten: lambda r, run: ev.SaveWritten(
        somebody(r, run),
        generation(r, run),
        step(r, run),
        0,
        "d",
        "p",
        (),
        sums(r),
        r.choice([()] * 8 + [("v",)]),
        part=saved_part(r, run),
    ),
    ev.SaveChecked: lambda r, run: ev.SaveChecked(
        somebody(r, run), generation(r, run), step(r, run), sums(r), 0, saved_part(r, run)
    ),
    ev.SaveFailed: lambda r, run: ev.SaveFailed(
        generation(r, run),
        step(r, run),
        "503",
        r.random() < 0.5,
        worker=r.choice(["", somebody(r, run)]),
        save=r.choice([0, run.saves.agreed, run.saves.agreed]),
    ),
    ev.Committed: lambda r, run: ev.Committed(generation(r, run), step(r, run)),
    ev.Notice: lambda r, run: ev.Notice(somebody(r, run), "SIGTERM"),
    ev.Draining: lambda r, run: ev.Draining((r.choice("abc"),)),
    ev.Found: lambda r, run: r.choice(
        [
            ev.Found(r.randrange(5), 0, label=r.choice(["", "m-1"])),
            ev.Found(None, detail="503", error=ERROR, passing=True),
            ev.Found(None, detail="nothing is left"),
        ]
    ),
    ev.Room: lambda r, run: ev.Room(r.randrange(4)),
    ev.StopAsked: lambda r, run: ev.StopAsked(r.choice(list(ev.StopCause)), r.choice([0.0, 9.0])),
    ev.Fenced: lambda r, run: ev.Fenced(ERROR),
    ev.Tick: lambda r, run: ev.Tick(),
}
ENDS = (ev.UserFailed, ev.DataEnded, ev.StopAsked, ev.Fenced)
"""Rarely told, since not much of a run is left after them."""


def next_of_order(draw: random.Random, run: Run) -> ev.Event:
    """What would mostly be told next."""
    flight = run.saves.in_flight
    if flight is not None and draw.random() < 0.5:
        if flight.committing:
            return ev.Committed(flight.generation, flight.step)
        who = draw.choice([*sorted(run.expected), flight.writer])
        part = None
        if flight.parts:
            rank = run.rank_of(who if run.written is not None else flight.writer) or 0
            part = SavedPart(rank, flight.step, 0, run.saves.agreed, None, ())
        if run.written is None:
            told = (flight.writer, flight.generation, flight.step, 0, "d", "p", (), {"v": 1})
            return ev.SaveWritten(*told, part=part)
        return ev.SaveChecked(
            who, flight.generation, flight.step, {"v": 1}, 0, part, run.saves.agreed
        )
    starting = [w.ident for w in run.workers.values() if w.stage is Stage.STARTING]
    if starting and draw.random() < 0.5:
        return ev.Warm(starting[0], draw.choice("ab"), 1, "x:1")
    if run.phase is Phase.FINDING:
        return ev.Found(3, 0, label="m-3")
    if not run.members:
        return ev.Tick()
    members = [run.workers[ident] for ident in run.members]
    if run.phase is Phase.FORMING:
        lacking = [worker.ident for worker in members if not worker.joined]
        if draw.random() < 0.2:
            obstacle = draw.choice([ev.Obstacle.MISSING, ev.Obstacle.DAMAGED, ev.Obstacle.STORE])
            return ev.JoinFailed(lacking[0], run.generation, "no luck", obstacle)
        return ev.Joined(lacking[0], run.generation, run.step)
    if run.phase is Phase.TRAINING:
        behind = min(members, key=lambda worker: worker.step or 0)
        onward = min(run.granted_end, (behind.step or 0) + 1)
        return ev.Progress(behind.ident, run.generation, onward, ev.Doing.STEP, 2.0)
    moving = [worker for worker in members if not worker.held]
    if moving:
        step = None if draw.random() < 0.2 else moving[0].step
        return ev.Held(moving[0].ident, moving[0].generation, step, 0, "x:3")
    return ev.Tick()


class Play:
    """One run under events of one seed; the clock stands still but for ticks."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.seed, self.now_s = seed, 100.0
        rules = policy(until=40, wait_s=8.0, **SHAPES[seed % len(SHAPES)])
        origin = ev.Found(3, 0, label="m-3")
        self.run, _ = machine.begin(rules, origin, None, Budgets(10**6), 0, self.now_s)
        self.told: set[tuple[Phase, type]] = set()
        self.moves: set[tuple[Phase, Phase]] = set()

    def event(self) -> ev.Event:
        in_order = 0.2 if self.run.phase is Phase.FINDING else 0.6  # else it's soon over
        if self.draw.random() < in_order:
            return next_of_order(self.draw, self.run)
        kind = self.draw.choice(list(MAKERS))
        while kind in ENDS and self.draw.random() < 0.9:
            kind = self.draw.choice(list(MAKERS))
        return MAKERS[kind](self.draw, self.run)

    def go_on(self) -> Play:
        for number in range(EVENTS):
            if self.run.phase is Phase.ENDED:
                break
            self.tell(number, self.event())
        return self

    def tell(self, number: int, event: ev.Event) -> None:
        where = f"seed {self.seed}, event {number}: {event}"
        if isinstance(event, ev.Tick):
            self.now_s += self.draw.choice([0.25, 1.0, 1.4, 30.0]) * self.draw.uniform(0.9, 1.05)
        # a tick has the clock's time, what follows it comes a little later
        now_s = self.now_s if isinstance(event, ev.Tick) else self.now_s + 0.001
        before = self.run
        self.told.add((before.phase, type(event)))
        try:
            self.run, actions = machine.advance(before, event, now_s)
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        self.moves.add((before.phase, self.run.phase))
        self.check(before, actions, now_s, where)

    def check(self, before: Run, actions: tuple[act.Action, ...], now_s: float, where: str) -> None:
        run = self.run
        again = Turn(run, now_s)
        reconcile.reconcile(again)
        assert again.run is run, f"{where}: a second look changes the run: {again.actions}"
        assert not again.actions, f"{where}: a second look does something: {again.actions}"
        assert set(run.members) <= set(run.workers), f"{where}: a member isn't there"
        ranked = sorted((w.rank, w.ident) for w in run.workers.values() if w.rank is not None)
        assert run.members == tuple(ident for _, ident in ranked), f"{where}: other members"
        assert run.workers.tally == Roster(run.workers.values()).tally, f"{where}: miscounted"
        assert run.generation >= before.generation, f"{where}: a generation number comes again"
        assert not run.gather_for or run.phase is Phase.ENDED, f"{where}: nobody gathers"
        if run.phase is Phase.TRAINING and run.ending is None:
            assert run.planned == run.reform, f"{where}: the plan isn't what follows from the run"
        ends = [action for action in actions if isinstance(action, act.Finish)]
        assert len(ends) == (run.phase is Phase.ENDED), f"{where}: {len(ends)} ends"


def play_all() -> list[Play]:
    return [Play(seed).go_on() for seed in range(SEEDS)]


@pytest.mark.slow
def test_machine_takes_every_event_in_every_phase_and_comes_to_rest() -> None:
    plays = play_all()
    told = set().union(*(play.told for play in plays))
    phases = set(Phase) - {Phase.ENDED}
    lacking = {(phase, kind) for phase in phases for kind in MAKERS} - told
    assert not lacking, "some event was told in some phase by no seed"
    moves = set().union(*(play.moves for play in plays))
    assert {move for move in moves if move[0] is not move[1]} >= {
        (Phase.WAITING, Phase.FORMING),
        (Phase.GATHERING, Phase.WAITING),
        (Phase.GATHERING, Phase.FORMING),
        (Phase.FORMING, Phase.TRAINING),
        *((phase, Phase.ENDED) for phase in phases),
    }


def test_every_event_has_a_fact_and_is_told_here() -> None:
    assert set(HANDLERS) == set(MAKERS) == set(get_args(ev.Event))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (before, after)
        for before in Phase
        for after in Phase
        if after is not before and after not in MOVES[before]
    ],
)
def test_illegal_move_raises(before: Phase, after: Phase) -> None:
    run = replace(Play(0).run, phase=before)
    with pytest.raises(IllegalMove, match=before.value):
        Turn(run, 0.0).enter(after)


# -- what is checked can fail


def keep_the_lost(patch: pytest.MonkeyPatch) -> None:
    """The crash that made this test necessary: a lost worker was still a member."""
    real = HANDLERS[ev.Gone]

    def on_gone(turn: Turn, event: ev.Gone) -> None:
        members = turn.run.members
        real(turn, event)
        turn.set(members=members)

    patch.setitem(HANDLERS, ev.Gone, on_gone)


def gather_from_nowhere(patch: pytest.MonkeyPatch) -> None:
    """A rule that sends a run where it mustn't go."""

    def gather(turn: Turn) -> None:
        if turn.run.gather_for:
            turn.enter(Phase.WAITING)

    patch.setattr(reconcile, "RULES", (gather, *reconcile.RULES))


def forget_who_ends(patch: pytest.MonkeyPatch) -> None:
    """A rule that doesn't know that it has acted."""
    patch.setattr(Turn, "is_ending", lambda turn, ident: False)


def keep_the_plan(patch: pytest.MonkeyPatch) -> None:
    """A planned re-form outlives its reason."""
    rules = tuple(rule for rule in reconcile.RULES if rule is not reforming.plan)
    patch.setattr(reconcile, "RULES", rules)


def sleep_through_a_loss(patch: pytest.MonkeyPatch) -> None:
    """A fact says that nothing is to be looked at."""
    real = HANDLERS[ev.Held]

    def on_held(turn: Turn, event: ev.Held) -> None:
        real(turn, event)
        turn.quiet = True

    patch.setitem(HANDLERS, ev.Held, on_held)


def miscount(patch: pytest.MonkeyPatch) -> None:
    """Who is gone is counted on."""
    real = Roster.without

    def without(roster: Roster, ident: str) -> Roster:
        made = real(roster, ident)
        made.tally = roster.tally
        return made

    patch.setattr(Roster, "without", without)


def seat_two_in_one_place(patch: pytest.MonkeyPatch) -> None:
    """Two members are told the same rank."""
    patch.setattr(forming, "_ranks", lambda seats: dict.fromkeys(seats, 0))


BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "KeyError|a member isn't there": keep_the_lost,
    "miscounted": miscount,
    "other members": seat_two_in_one_place,
    "IllegalMove": gather_from_nowhere,
    "Restless": forget_who_ends,
    "the plan isn't what follows from the run": keep_the_plan,
    "a second look changes the run": sleep_through_a_loss,
}


@pytest.mark.parametrize("told", BUGS)
def test_planted_bug_is_caught(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    BUGS[told](monkeypatch)
    with pytest.raises(AssertionError, match=told):
        play_all()
