"""How does the driver carry out what the rules ask of its workers?

Rule: everything is asynchronous; what comes back (events, deaths, refusals; see ``calls``) goes
into the loop's inbox. Workers and their placement groups are detached and named, in a namespace that
follows from the output URL, so that the next driver finds them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import ray
from ray import exceptions as rex

from orchestrator.decide import actions as act
from orchestrator.decide import events as ev
from orchestrator.workers.actor import CONCURRENCY_GROUPS, WorkerActor
from orchestrator.workers.adopting import Living
from orchestrator.workers.calls import Calls
from orchestrator.workers.namespace import living_workers
from orchestrator.workers.orders import CheckpointFiles, GrantOrder, JoinOrder, Setup
from orchestrator.workers.passing import Passed, ask
from orchestrator.workers.placement import Placement
from orchestrator.workers.scheduling import THREADS, Scheduler
from orchestrator.workers.starting import Starter

log = logging.getLogger(__name__)

RELEASE_S = 10.0
"""Longest time for a killed process to be gone: its memory is given back first, 0.1 ms for each
megabyte.
"""
END_TOLD_S = 10.0
"""Ray tells a death when the process is gone (``RELEASE_S``); who was seen to die and isn't gone by
then lives.
"""
START_S = 10.0
"""Longest wait for starts that are under way as the run ends; a worker that starts later than that
ends itself as an orphan.
"""
HOLDS_AGAIN_S = 1.0
"""Before a driver that can't know whether it holds the run looks again: a heartbeat tells, and comes
every few seconds.
"""
DONOR = act.StateFrom.DONOR
_GROUP_OF = {
    "poll": "poll",
    "adopt": "control",
    "setup": "control",
    "join": "control",
    "grant": "control",
    "quiesce": "control",
    "break_step": "control",
    "held_state": "hand_over",
    "held_rows": "hand_over",
    "loaded_state": "hand_over",
}


def actor_class() -> Any:
    """``WorkerActor`` as Ray's class, each method in its concurrency group."""
    for method, group in _GROUP_OF.items():
        ray.method(concurrency_group=group)(getattr(WorkerActor, method))
    return ray.remote(concurrency_groups=CONCURRENCY_GROUPS, max_restarts=0)(WorkerActor)


class Fleet:
    """The workers of one run, as one driver commands them.

    Args:
        tell: takes an event; called from Ray's threads.
        setup: makes what new workers are made with, when the first one is started.
        one_loads: rank 0 alone reads a checkpoint and hands it on.
        holds: whether this driver still holds the run; a stale one must not kill its successor's
            workers, nor start any beside them.
    """

    def __init__(
        self,
        namespace: str,
        attempt: int,
        placement: Placement,
        tell: Callable[[ev.Event], None],
        setup: Callable[[], Setup],
        holds: Callable[[], bool] = lambda: True,
        one_loads: bool = False,
        scheduler: Scheduler = THREADS,
    ) -> None:
        self._namespace, self._attempt, self._placement = namespace, attempt, placement
        self._calls = Calls(attempt, placement, tell, scheduler)
        self._scheduler = scheduler
        self._setup, self._holds = setup, holds
        self._setup_refs: dict[bool, Any] = {}
        self._one_loads = one_loads
        self._class = actor_class()
        self._starter = Starter(self._start, scheduler)

    # -- what the rules ask for

    def start(self, action: act.StartWorker) -> None:
        """Have a worker started, after its delay; doesn't wait for it."""
        self._calls.expect(action.worker)
        if action.stage not in self._setup_refs:
            # Who comes when the group has trained gets its state from a member, and would fetch the
            # start checkpoint in vain
            setup = self._setup()
            self._setup_refs[action.stage] = ray.put(
                setup if action.stage else replace(setup, start=None)
            )
        if action.delay_s > 0:
            self._later(action.delay_s, action)
        else:
            self._starter.ask(action)

    def _later(self, delay_s: float, action: act.StartWorker) -> None:
        self._scheduler.later(delay_s, lambda: self._starter.ask(action))

    def _start(self, action: act.StartWorker) -> None:
        worker = action.worker
        if self._calls.closed or self._calls.is_gone(worker):
            return
        if not self._holds():
            # Either another driver has followed, and this one will hear of it, or the store is away
            self._later(HOLDS_AGAIN_S, action)
            return
        try:
            options = self._placement.options(worker, action.avoid, standby=action.standby)
            actor = self._class.options(
                name=worker, namespace=self._namespace, lifetime="detached", **options
            ).remote(worker, self._attempt, self._setup_refs[action.stage])
        except Exception as error:  # noqa: BLE001 - whatever it is, the rules count it and try again
            if not self._is_a_rivals(worker, error):
                self._calls.not_started(worker, error)
                return
            # The store creates nothing exclusively, and one of the two drivers will hear of it
            self._placement.free(worker)
            self._later(HOLDS_AGAIN_S, action)
            return
        if not self._calls.listen(worker, actor):
            # Its end was asked for meanwhile, and told
            self._placement.free(worker)
            if self._holds():
                ray.kill(actor, no_restart=True)

    def _is_a_rivals(self, worker: str, error: Exception) -> bool:
        """Whether a worker couldn't be started because another driver has one of its name."""
        try:
            return isinstance(error, ValueError) and worker in living_workers(self._namespace)
        except rex.RayError:
            return False

    def end(self, action: act.EndWorker) -> None:
        """Kill a worker; its death is told with this cause."""
        actor = self._calls.ends(action.worker, ev.Cause(action.cause), action.detail)
        if actor is not None and self._holds():
            ray.kill(actor, no_restart=True)

    def await_end(self, action: act.AwaitEnd) -> None:
        """Another may have its place; Ray's word on its end is waited for, so that the reason is
        known, but not for ever.
        """
        self._placement.free(action.worker)
        self._scheduler.later(END_TOLD_S, lambda: self._end_the_living(action.worker))

    def _end_the_living(self, worker: str) -> None:
        if not self._calls.closed and not self._calls.is_gone(worker):
            told = "its peers saw its process end, and Ray didn't"
            self.end(act.EndWorker(worker, ev.Cause.DIED.value, told))

    def quiesce(self, action: act.Quiesce) -> None:
        """Stop members."""
        for worker in action.workers:
            self._calls.call(worker, "quiesce", action.generation, action.urgent)

    def break_step(self, action: act.BreakStep) -> None:
        """Break a hanging step off."""
        self._calls.call(action.worker, "break_step", action.generation)

    def form(self, action: act.Form, checkpoint: CheckpointFiles | None) -> None:
        """Have all seats join; what they take from others passes through the object store."""
        passed = ask(self._calls, self._attempt, action)
        if passed is None:  # its death is on its way to the rules
            self._not_formed(action, "one whose state or rows go on is gone")
        elif action.release or passed.rows:
            # Waits for others, which the loop must not
            self._scheduler.start(
                lambda: self._after_passing(action, checkpoint, passed), "tfresume-replace"
            )
        else:
            self._order(action, checkpoint, passed)

    def _after_passing(
        self, action: act.Form, checkpoint: CheckpointFiles | None, passed: Passed
    ) -> None:
        """Once all that goes on is in the object store, end the processes that are used up; then
        have the seats join.
        """
        try:
            # however long a large state takes; a donor that hangs is ended
            has_passed = all(bool(ray.get(told)) for told in passed.told)
        except rex.RayError as error:
            # A giver died: the orders fail, and others are asked
            has_passed = False
            log.info("what the group was to go on with didn't pass: %s", error)
        if passed.rows and not has_passed:
            self._not_formed(action, "rows that go on were not given")
            return
        if has_passed and action.release:
            for worker in action.release:
                self.end(
                    act.EndWorker(
                        worker, ev.Cause.RELEASED.value, "its state has passed to fresh processes"
                    )
                )
            self._calls.wait_until_gone(action.release, RELEASE_S)
        self._order(action, checkpoint, passed)

    def _order(self, action: act.Form, checkpoint: CheckpointFiles | None, passed: Passed) -> None:
        donated = passed.state
        addresses = tuple(seat.address for seat in action.seats)
        if (
            self._one_loads
            and len(action.seats) > 1
            and action.seats[0].state_from is act.StateFrom.CHECKPOINT
        ):
            # Initialisers may draw random numbers: rank 0 reads and initialises, the others get its
            # state
            action = replace(
                action,
                seats=(
                    action.seats[0],
                    *(replace(seat, state_from=DONOR) for seat in action.seats[1:]),
                ),
            )
            reader = self._calls.actors.get(action.seats[0].worker)
            if reader is None:
                self._not_formed(action, "the one that was to read the checkpoint is gone")
                return
            donated = reader.loaded_state.remote(self._attempt, action.generation)
        for seat in action.seats:
            lent = self._placement.lend(seat.worker)
            if lent is None:
                self.end(
                    act.EndWorker(
                        seat.worker, ev.Cause.RELEASED.value, "no GPU is free on the standby's node"
                    )
                )
                continue
            needs_files = seat.state_from is act.StateFrom.CHECKPOINT
            files = checkpoint if needs_files else None
            order = JoinOrder(
                action.generation,
                seat.rank,
                addresses,
                action.step,
                action.position,
                seat.state_from,
                files,
                lent.devices,
                lent.place,
                seat.rows is not None,
            )
            given = (
                donated if seat.state_from is DONOR else None,
                *passed.rows.get(seat.worker, ()),
            )
            self._calls.call(seat.worker, "join", order, *given, generation=action.generation)

    def _not_formed(self, action: act.Form, why: str) -> None:
        for seat in action.seats:
            self._calls.tell(ev.JoinFailed(seat.worker, action.generation, why))

    def grant(self, action: act.Grant, directory: str) -> None:
        """Let members run further."""
        order = GrantOrder.of(action, directory, self._attempt)
        for worker in action.workers:
            self._calls.call(worker, "grant", order)

    # -- another driver's workers

    def adopt(self, living: Living, known: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
        """Command these from now on. ``known``: place to node and GPUs, as the journal tells."""
        self._placement.adopt(living.reports, known)
        for worker, actor in living.actors.items():
            self._calls.expect(worker)
            self._calls.listen(worker, actor)

    def close(self, *, kill: bool) -> None:
        """Listen no longer; with ``kill`` end all workers and give their places back."""
        self._calls.close()
        self._starter.close(START_S)
        if not (kill and self._holds()):
            return
        for actor in list(self._calls.actors.values()):
            ray.kill(actor, no_restart=True)
        self._placement.remove()
