"""What does one life of the driver hold, and how is it put down again?

Rule: lease, journal, heartbeat and fleet are taken in this order and put down in the reverse one. A
driver that ends in an orderly way ends its workers; one that was fenced, or that meets an error of
its own, leaves them to its successor.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from orchestrator.config import RunConfig
from orchestrator.decide import actions as act
from orchestrator.decide.events import StopCause
from orchestrator.decide.goodput import goodput
from orchestrator.decide.run import Run
from orchestrator.driver.heartbeat import Heartbeat
from orchestrator.driver.loop import Inbox, Interrupted, Loop
from orchestrator.driver.observer import Observers
from orchestrator.driver.past import Past, fold
from orchestrator.driver.result import RunResult, exit_code_of, status_of
from orchestrator.driver.startup import StartPoint
from orchestrator.driver.storage_thread import Saved, StorageThread, files_of
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.parsing import parse
from orchestrator.journal.run_events import AttemptBegan, RunEnded, Warned
from orchestrator.redaction import redacted_data
from orchestrator.store.checkpoints.source import Source
from orchestrator.store.objects.location import Location
from orchestrator.store.run.journal import read_journal
from orchestrator.store.run.lease import Lease, acquire
from orchestrator.store.run.run_record import Proved, RunRecord
from orchestrator.workers.adopting import Living, take_over
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.namespace import end_run, namespace_of
from orchestrator.workers.nodes import NodeWatch
from orchestrator.workers.orders import CheckpointFiles, Setup
from orchestrator.workers.placement import Placement


class Attempt:
    """One life of the driver, from the lease on."""

    def __init__(
        self,
        config: RunConfig,
        output: Location,
        lease: Lease,
        past: Past,
        observers: Observers,
        inbox: Inbox,
    ) -> None:
        self._config, self._output, self._lease, self._observers, self._inbox = (
            config,
            output,
            lease,
            observers,
            inbox,
        )
        self.past = past
        self._events = list(past.events)
        self._storage_thread: StorageThread | None = None
        self._heartbeat: Heartbeat | None = None
        self._fleet: Fleet | None = None
        self._watch: NodeWatch | None = None
        self._fenced = False
        self._start_step = 0
        self._pending: list[JournalEvent] = []

    @classmethod
    def begin(cls, config: RunConfig, output: Location, observers: Observers, inbox: Inbox) -> Self:
        """Take the lease. Raises OutputError where another driver lives or nothing can be written."""
        lease = acquire(output, lease_s=config.lease_s)
        past = fold(read_journal(output)) if lease.attempt > 1 else Past()
        return cls(config, output, lease, past, observers, inbox)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watch is not None:
            self._watch.close()
        if self._fleet is not None:
            self._fleet.close(kill=error is None and not self._fenced)
        if self._heartbeat is not None:
            self._heartbeat.close()
        if self._storage_thread is not None:
            self._storage_thread.close()
        elif not self._fenced:
            self._lease.release()

    @property
    def number(self) -> int:
        """This driver's number; 1 where nobody has ever held the run."""
        return self._lease.attempt

    # -- storage

    def store(
        self,
        record: RunRecord,
        step_key: str | None,
        repairs: tuple[str, ...],
        parent: tuple[int, int] | None,
        parent_label: str | None,
    ) -> None:
        """Open journal and commits, and begin to beat."""
        saved = Saved(record.fingerprint, step_key, repairs)
        self._storage_thread = StorageThread(
            self._output,
            self._lease,
            self._config,
            saved,
            parent,
            parent_label,
            self.past.trained_s,
            self._inbox.put,
        )
        self._heartbeat = Heartbeat(
            self._output, self._lease, self._storage_thread, self._inbox.put
        )

    def files_of(self, source: Source, step: int) -> CheckpointFiles:
        """What workers need in order to restore ``source``."""
        return files_of(source, step)

    # -- workers

    def staff(self, setup: Callable[[], Setup], *, one_loads: bool) -> None:
        """Be ready to start workers, where none lives: what is left of others is removed.

        Args:
            one_loads: a checkpoint may have to be completed, by one of them for all.
        """
        end_run(self._output.url)
        self._fleet = self._new_fleet(setup, one_loads)

    def _new_fleet(self, setup: Callable[[], Setup], one_loads: bool) -> Fleet:
        namespace = namespace_of(self._output.url)
        placement = Placement(namespace, self._config.workers)
        number, tell = self._lease.attempt, self._inbox.put
        return Fleet(
            namespace, number, placement, tell, setup, lambda: self._lease.is_fresh, one_loads
        )

    def take_over_workers(self) -> Living:
        """The workers that live and obey this driver from now on. Raises LeaseLost where they obey
        a newer one.
        """
        living = take_over(namespace_of(self._output.url), self._lease.attempt)
        setup = living.setup
        if setup is not None:
            self._fleet = self._new_fleet(lambda: setup, one_loads=True)
            self._fleet.adopt(living, self.past.places)
        return living

    # -- the run

    def announce(
        self,
        step: int,
        until: int,
        *,
        resumed_from: str | None,
        adopted: bool,
        warnings: Sequence[str],
        batches_per_step: int | None,
        proof: Proved | None,
    ) -> None:
        """Write down what this attempt is about; the first event of its journal."""
        self._start_step = step
        versions = {name: version(name) for name in ("tfresume", "ray", "tensorflow")} | {
            "python": platform.python_version()
        }
        event = AttemptBegan(
            holder=self._lease.holder.name,
            pid=os.getpid(),
            host=socket.gethostname(),
            source=self._config.source,
            address=self._config.address,
            start_step=step,
            until=until,
            resumed_from=resumed_from,
            adopted=adopted,
            config=self._config.model_dump(mode="json"),
            versions=versions,
            batches_per_step=batches_per_step,
            proof=None if proof is None else proof.model_dump(),
        )
        # observers see it too, so it's redacted before it reaches the journal
        self._pending.append(parse(redacted_data(event.record())))
        told = [*warnings]
        if proof is not None and proof.verdict == "differs":
            told.append(proof.told)
        self._pending.extend(Warned(reason=text) for text in told)

    def play(
        self,
        run: Run,
        actions: tuple[act.Action, ...],
        files: CheckpointFiles | None,
        label: str | None,
    ) -> RunResult:
        """Let the loop work until the end."""
        assert self._storage_thread is not None
        assert self._fleet is not None
        self._observers.add(_Memory(self._events))
        loop = Loop(
            run,
            self._fleet,
            self._storage_thread,
            self._observers,
            self._inbox,
            self._lease.attempt,
            files,
        )
        loop.checkpoint_label = label
        for event in self._pending:
            loop.write_down(event)
        if (
            run.generation
            and run.seats
            and not any(isinstance(action, act.Form) for action in actions)
        ):
            self._storage_thread.take_over(run.generation, run.step)
        self._watch = NodeWatch(self._config.workers, self._inbox.put)
        try:
            finish = loop.play(actions)
        except Interrupted:
            reason = "interrupted a second time: ended without a last save"
            finish = act.Finish(act.Outcome.STOPPED, reason, loop.run.step, StopCause.SIGINT.value)
            loop.write_down(
                RunEnded(
                    outcome=finish.outcome.value,
                    reason=reason,
                    step=loop.run.step,
                    checkpoint_step=loop.run.saves.committed,
                )
            )
        self._fenced = bool(finish.error and finish.error.get("kind") == "LeaseLost")
        return self._result(loop, finish)

    def _result(self, loop: Loop, finish: act.Finish) -> RunResult:
        step = finish.step if finish.step is not None else loop.run.step
        checkpoint = _url(self._output, loop.checkpoint_label)
        return RunResult(
            status_of(finish.outcome),
            self._start_step,
            step,
            checkpoint,
            loop.run.world_size,
            tuple(loop.incidents),
            goodput(self._events).as_dict(),
            finish.reason,
            self._output.shown,
            self._lease.attempt,
            exit_code_of(finish),
            finish.error,
            max(0, step - self._start_step),
            warnings_in(self._events),
        )


def warnings_in(events: Sequence[JournalEvent]) -> tuple[str, ...]:
    """What the run was warned of, in all of its attempts, each once."""
    return tuple(dict.fromkeys(event.reason for event in events if isinstance(event, Warned)))


class _Memory:
    """Keeps the journal's events for the goodput at the end."""

    def __init__(self, events: list[JournalEvent]) -> None:
        self._events = events

    def event(self, event: Mapping[str, Any]) -> None:
        self._events.append(parse(event))

    def progress(self, progress: object) -> None:
        """Only what is journaled counts."""


def ended_before_it_began(output: Location, start: StartPoint) -> RunResult:
    """The answer where there is nothing left to do."""
    reason = f"step {start.until} is reached already: the newest checkpoint is at step {start.step}"
    return RunResult(
        "done",
        start.step,
        start.step,
        _url(output, start.own_label),
        0,
        reason=reason,
        output=output.shown,
        warnings=start.warnings,
    )


def _url(output: Location, label: str | None) -> str | None:
    """The prefix that TensorFlow restores, as a URL that works from anywhere."""
    return None if label is None else f"{output.shown.rstrip('/')}/{label}"
