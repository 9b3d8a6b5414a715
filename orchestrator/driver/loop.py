"""How are decisions carried out?

Rule: observe, decide, write down, act; nothing else. One thread takes events out of one inbox, in
their order; everything slow (Ray, storage) happens elsewhere and comes back as an event. A tick
every quarter of a second lets the rules look at the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol, assert_never

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.decide import machine
from orchestrator.decide.phases import Phase
from orchestrator.decide.run import Run
from orchestrator.driver.inbox import Inbox, Interrupted, Message, Remark, Restorable
from orchestrator.driver.journal_pace import JournalPace
from orchestrator.driver.observer import Observer, RunProgress
from orchestrator.driver.stagings import Stagings
from orchestrator.driver.step_times import StepTimes
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.group_events import TrainingBegan
from orchestrator.journal.run_events import IncidentOver, ProgressMade, RunEnded
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.store.objects.layout import checkpoint_dir
from orchestrator.workers.orders import CheckpointFiles
from orchestrator.workers.scheduling import THREADS, Scheduler

TICK_S = 0.25
"""How often the rules look at the clock: ten times within the shortest bound of a hang
(``signs_of_life.silent_s``). ``decide.rules.deadlines`` takes as much off its bounds.
"""
MOST_INCIDENTS = 1000
"""The newest are kept for the result, half a megabyte of them; the journal has all."""
SHOW_S = 0.2
"""RunProgress is shown at most so often: eyes don't follow more than five numbers a second."""


class FleetLike(Protocol):
    """``workers.fleet.Fleet``."""

    def start(self, action: act.StartWorker) -> None: ...
    def end(self, action: act.EndWorker) -> None: ...
    def quiesce(self, action: act.Quiesce) -> None: ...
    def await_end(self, action: act.AwaitEnd) -> None: ...
    def break_step(self, action: act.BreakStep) -> None: ...
    def form(self, action: act.Form, checkpoint: CheckpointFiles | None) -> None: ...
    def grant(self, action: act.Grant, directory: str) -> None: ...


class StorageThreadLike(Protocol):
    """``driver.storage_thread.StorageThread``."""

    def note(self, event: JournalEvent) -> None: ...
    def take_over(self, generation: int, step: int) -> None: ...
    def commit(self, written: ev.SaveWritten, world_size: int) -> None: ...
    def find(self, reason: str, exclude: Mapping[str, str]) -> None: ...


class Loop:
    """The driver of one attempt.

    Args:
        run, actions: as ``machine.begin`` or ``machine.adopt`` returned them.
        checkpoint: the files that ``run.origin`` speaks of.
        scheduler: its clocks.
    """

    def __init__(
        self,
        run: Run,
        fleet: FleetLike,
        storage_thread: StorageThreadLike,
        observer: Observer,
        inbox: Inbox,
        attempt: int,
        checkpoint: CheckpointFiles | None,
        scheduler: Scheduler = THREADS,
    ) -> None:
        self.run = run
        self.incidents: deque[Mapping[str, Any]] = deque(maxlen=MOST_INCIDENTS)
        self.checkpoint_label: str | None = None
        self._fleet, self._storage_thread, self._observer, self._inbox = (
            fleet,
            storage_thread,
            observer,
            inbox,
        )
        self._attempt, self._checkpoint = attempt, checkpoint
        self._clock, self._wall = scheduler.monotonic, scheduler.unix
        self._began_s = self._clock()
        self._finish: act.Finish | None = None
        self._stagings = Stagings()
        self._step_times = StepTimes()
        self._next_tick_s = 0.0
        self._shown_s = float("-inf")
        self._journal_pace = JournalPace()
        self._progress: RunProgress | None = None

    def play(self, actions: tuple[act.Action, ...]) -> act.Finish:
        """Carry out ``actions``, then live until the end. Raises Interrupted."""
        self._perform(actions)
        while self._finish is None:
            # A tick also in the midst of many messages: deadlines must be looked at all the same
            message = self._inbox.get(self._next_tick_s - self._clock())
            if message is not None:
                self._handle(message)
            if self._clock() >= self._next_tick_s:
                self._handle(ev.Tick())
                self._next_tick_s = self._clock() + TICK_S
        return self._finish

    def _handle(self, message: Message) -> None:
        match message:
            case Remark():
                self.write_down(message.event)
            case Restorable():
                self._checkpoint = message.files
            case Interrupted():
                raise message
            case _:
                self.run, actions = machine.advance(self.run, message, self._clock())
                self._perform(actions)
                if isinstance(message, ev.Progress):
                    self._show(message)
                    self._note_staging(message)
                    self._note_step_times(message)

    def _note_staging(self, pulse: ev.Progress) -> None:
        told = self._stagings.take(pulse, self.run.workers, self._clock())
        if told is not None:
            self.write_down(told)

    def _note_step_times(self, pulse: ev.Progress) -> None:
        now_s = self._clock()
        self._step_times.take(pulse, now_s, self.run.workers)
        if self._step_times.is_due(now_s):
            self._tell_step_times()

    def _tell_step_times(self) -> None:
        told = self._step_times.told(self.run.seats, self.run.step, self._clock())
        if told is not None:
            self.write_down(told)

    def write_down(self, event: JournalEvent) -> None:
        """Journal an event and show it."""
        if isinstance(event, RunEnded):
            self._tell_step_times()
        stamped = event.stamped(
            at=round(self._wall(), 3),
            attempt=self._attempt,
            t_s=round(self._clock() - self._began_s, 3),
        )
        record = stamped.record()
        if isinstance(event, IncidentOver):
            self.incidents.append(record)
        elif isinstance(event, SaveCommitted):
            self.checkpoint_label = event.checkpoint
        self._storage_thread.note(stamped)
        self._observer.event(record)
        if isinstance(event, TrainingBegan | IncidentOver):
            self._journal_pace.hurry()
        elif isinstance(event, RunEnded) and self._progress is not None:
            self._journal_progress()

    def _perform(self, actions: tuple[act.Action, ...]) -> None:
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: act.Action) -> None:
        match action:
            case act.Note():
                self.write_down(action.event)
            case act.Grant():
                self._fleet.grant(action, checkpoint_dir(self._attempt, action.generation))
            case act.Form():
                # First, and in one thread with the commits: nothing of a generation is committed
                # before its take-over is recorded
                self._storage_thread.take_over(action.generation, action.step)
                self._fleet.form(action, self._checkpoint)
            case act.Finish():
                self._finish = action
            case act.StartWorker():
                self._fleet.start(action)
            case act.EndWorker():
                self._fleet.end(action)
            case act.AwaitEnd():
                self._fleet.await_end(action)
            case act.Quiesce():
                self._fleet.quiesce(action)
            case act.BreakStep():
                self._fleet.break_step(action)
            case act.Commit():
                self._storage_thread.commit(action.written, self.run.world_size)
            case act.FindCheckpoint():
                self._storage_thread.find(action.reason, action.exclude)
            case _:
                assert_never(action)

    def _show(self, pulse: ev.Progress) -> None:
        run = self.run
        # Rank 0 alone, and only of the present generation: others tell the same step a moment later
        if run.phase is not Phase.TRAINING or (pulse.worker, pulse.generation) != (
            run.seats[0],
            run.generation,
        ):
            return
        loss = next(iter(pulse.values.values()), None)
        self._progress = RunProgress(
            run.step,
            loss,
            pulse.steps_per_s * run.leap,
            self.checkpoint_label,
            run.world_size,
            run.policy.until,
            run.generation,
            pulse.values,
            pulse.summaries,
        )
        now_s = self._clock()
        if now_s - self._shown_s >= SHOW_S or run.step >= run.policy.until:
            self._shown_s = now_s
            self._observer.progress(self._progress)
        if self._journal_pace.is_due(now_s):
            self._journal_progress()

    def _journal_progress(self) -> None:
        progress = self._progress
        assert progress is not None
        self._journal_pace.written(self._clock())
        saving = self.run.policy.saving
        next_step = (
            (self.run.step // saving.save_steps + 1) * saving.save_steps
            if saving.save_steps
            else None
        )
        next_s = None
        if saving.save_every_s is not None:
            next_s = round(
                max(0.0, saving.save_every_s - (self._clock() - self.run.saves.last_s)), 1
            )
        self.write_down(
            ProgressMade(
                generation=progress.generation,
                step=progress.step,
                loss=progress.loss,
                steps_per_s=round(progress.steps_per_s, 3),
                values=progress.values,
                world_size=progress.world_size,
                until=progress.until,
                next_save_step=next_step,
                next_save_s=next_s,
            )
        )
