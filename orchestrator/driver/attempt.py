"""What does one life of the driver hold, and in which order is it given back?

Rule: an attempt is made when all that it needs is known: the claim on the output with its past,
what it continues, the run's first state and the workers. It is never half made. What it holds is
given back in the reverse order. A driver that ends in an orderly way ends its workers; one that was
fenced, or that meets an error of its own, leaves them to its successor.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from orchestrator.decide import actions as act
from orchestrator.decide.causes import StopCause
from orchestrator.decide.run import Run
from orchestrator.driver.claim import Claim
from orchestrator.driver.heartbeat import Heartbeat
from orchestrator.driver.inbox import Inbox, Interrupted
from orchestrator.driver.loop import Loop
from orchestrator.driver.observer import Observers
from orchestrator.driver.result import RunResult, exit_code_of, label_url, status_of
from orchestrator.driver.save_manifests import Saved
from orchestrator.driver.storage_thread import StorageThread
from orchestrator.errors import OrchestratorError
from orchestrator.graph.loading import Loading
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.folding import Fold, take_all
from orchestrator.journal.parsing import parse
from orchestrator.journal.run_events import OUTER_ATTEMPT, AttemptBegan, RunEnded, Warned
from orchestrator.next_commands import logs_command
from orchestrator.redaction import redacted_data
from orchestrator.store.run.run_record import Proved, RunRecord
from orchestrator.workers.fleet import Fleet
from orchestrator.workers.nodes import NodeWatch
from orchestrator.workers.orders import CheckpointFiles

log = logging.getLogger("tfresume")


@dataclass(frozen=True)
class Continuation:
    """What an attempt continues.

    Attributes:
        record: the run's.
        step_key, repairs, edits: of its graph, for the manifests to come.
        start_step, until: global steps: where this attempt begins, and where the run ends.
        loading: how the source's checkpoint is read where it's needed once more, None where that
            isn't known.
        label: the newest committed checkpoint below the output; None where there is none.
        parent: (attempt, generation) whose checkpoint the first generation starts from, (0, 0) for
            the source, None for the newest in the lineage.
        files: of the checkpoint that the workers start from; None where they have a state.
        adopted: it goes on with the workers of a driver that died.
        batches_per_step: None where each member computes one.
        proof: what is known of the group's first step.
        warnings: to be written down at its beginning.
    """

    record: RunRecord
    step_key: str | None
    repairs: tuple[str, ...]
    edits: tuple[str, ...]
    loading: Loading | None
    start_step: int
    until: int
    label: str | None
    parent: tuple[int, int] | None
    files: CheckpointFiles | None
    adopted: bool
    batches_per_step: int | None
    proof: Proved | None
    warnings: tuple[str, ...] = ()


class Attempt:
    """One life of the driver.

    Args:
        claim: passes on its lease.
        run: as ``machine.begin`` or ``machine.adopt`` made it.
        fleet: the workers that it commands.
    """

    def __init__(
        self,
        claim: Claim,
        continuation: Continuation,
        run: Run,
        fleet: Fleet,
        observers: Observers,
        inbox: Inbox,
    ) -> None:
        claim.pass_on()
        self._claim, self._continuation = claim, continuation
        self._fleet, self._inbox = fleet, inbox
        self._storage_thread = self._opened_storage()
        self._heartbeat = Heartbeat(
            claim.output, claim.lease, self._storage_thread, inbox.put, claim.scheduler
        )
        self._account, self._standing = claim.past.account, claim.past.standing
        observers.past(claim.past.counted)
        observers.add(_Memory(self._account, self._standing))
        self._loop = Loop(
            run,
            fleet,
            self._storage_thread,
            observers,
            inbox,
            claim.attempt,
            continuation.files,
            claim.scheduler,
        )
        self._loop.checkpoint_label = continuation.label
        self._fenced = False

    def _opened_storage(self) -> StorageThread:
        claim, goes_on = self._claim, self._continuation
        record = goes_on.record
        return StorageThread(
            claim.output,
            claim.lease,
            claim.config,
            Saved(
                *(record.fingerprint, goes_on.step_key, goes_on.repairs, goes_on.edits),
                goes_on.loading,
            ),
            goes_on.parent,
            goes_on.label,
            claim.past.trained_s,
            self._inbox.put,
            claim.scheduler,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._fleet.close(kill=error is None and not self._fenced and self._holds_still())
        self._heartbeat.close()
        self._storage_thread.close()

    def _holds_still(self) -> bool:
        """Whether nobody can have taken over; asks the store where it was away until now. Else the
        workers would live on as orphans, and the places of those that are dead for good.
        """
        try:
            self._claim.lease.confirm()
        except OrchestratorError as error:
            log.warning("the workers are left to end themselves: %s", error)
            return False
        return True

    def play(self, actions: tuple[act.Action, ...]) -> RunResult:
        """Let the loop work until the end, with ``actions`` first."""
        loop, run = self._loop, self._loop.run
        for event in self._first_events():
            loop.write_down(event)
        # A group that was taken over in the midst of its training goes on under this attempt's
        # number: without an entry in the lineage none of its checkpoints would count
        if (
            run.generation
            and run.seats
            and not any(isinstance(action, act.Form) for action in actions)
        ):
            self._storage_thread.take_over(run.generation, run.step)
        # Not before the run is there: it tells how much room is left beside the run's own workers
        claim = self._claim
        with closing(NodeWatch(claim.config.workers, self._inbox.put, claim.scheduler)):
            finish = self._finished(actions)
        self._fenced = bool(finish.error and finish.error.get("kind") == "LeaseLost")
        return self._result(finish)

    def _finished(self, actions: tuple[act.Action, ...]) -> act.Finish:
        loop = self._loop
        try:
            return loop.play(actions)
        except Interrupted:
            reason = "interrupted a second time: ended without a last save"
            loop.write_down(
                RunEnded(
                    outcome=act.Outcome.STOPPED.value,
                    reason=reason,
                    step=loop.run.step,
                    checkpoint_step=loop.run.saves.committed,
                )
            )
            return act.Finish(act.Outcome.STOPPED, reason, loop.run.step, StopCause.SIGINT.value)

    def _first_events(self) -> Iterator[JournalEvent]:
        """What this attempt is about, and what it warns of."""
        claim, goes_on = self._claim, self._continuation
        proof = goes_on.proof
        versions = {name: version(name) for name in ("tfresume", "ray", "tensorflow")} | {
            "python": platform.python_version()
        }
        event = AttemptBegan(
            holder=claim.lease.holder.name,
            pid=os.getpid(),
            host=socket.gethostname(),
            source=claim.config.source,
            address=claim.config.address,
            start_step=goes_on.start_step,
            until=goes_on.until,
            resumed_from=None if goes_on.adopted else goes_on.label,
            adopted=goes_on.adopted,
            config=claim.config.model_dump(mode="json"),
            versions=versions,
            batches_per_step=goes_on.batches_per_step,
            outer_attempt=os.environ.get(OUTER_ATTEMPT, ""),
            proof=None if proof is None else proof.model_dump(),
            edits=goes_on.edits,
        )
        # Observers see it too, so it's redacted before it reaches the journal
        yield parse(redacted_data(event.record()))
        for text in goes_on.warnings:
            yield Warned(reason=text)
        if proof is not None and proof.verdict == "differs":
            yield Warned(reason=proof.told)

    def _result(self, finish: act.Finish) -> RunResult:
        loop, output = self._loop, self._claim.output
        start_step = self._continuation.start_step
        step = finish.step if finish.step is not None else loop.run.step
        return RunResult(
            status=status_of(finish.outcome),
            start_step=start_step,
            final_step=step,
            checkpoint=label_url(output.shown, loop.checkpoint_label),
            world_size=loop.run.world_size,
            incidents=tuple(
                {**item, "logs": logs_command(output.shown, str(item.get("worker") or ""))}
                for item in loop.incidents
            ),
            goodput=self._account.goodput().as_dict(),
            reason=finish.reason,
            output=output.shown,
            attempt=self._claim.attempt,
            exit_code=exit_code_of(finish),
            error=finish.error,
            steps_done=max(0, step - start_step),
            warnings=tuple(self._standing.warnings),
        )


class _Memory:
    """Folds what is journaled, for the result at the end."""

    def __init__(self, *folds: Fold) -> None:
        self._folds = {str(number): fold for number, fold in enumerate(folds)}

    def event(self, event: Mapping[str, Any]) -> None:
        take_all(self._folds, [event])

    def progress(self, progress: object) -> None:
        """Only what is journaled counts."""
