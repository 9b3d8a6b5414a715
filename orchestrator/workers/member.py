"""What does a worker do, and when does it stop?

Rule: one thread does all that touches the graph; the driver's calls only leave notes for it. Between two steps it looks at the notes in
this order: end, join, hold, save, step. Whatever ends a step early leaves the variables as they were, and the state goes to host memory
at once, so that a new generation can start from it whoever else dies.

::

    loading ─► warm ─► joining ─► stepping ◄─► idle at the lease's end
                         ▲            │  peer lost, end of data, user error, asked to stop
                         └── held ◄───┘
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.errors import CorruptCheckpoint, EndOfData, OrchestratorError, PeerLost, UserCodeError
from orchestrator.workers.foreign_text import last_line, short
from orchestrator.workers.orders import GrantOrder, JoinOrder
from orchestrator.workers.outbox import Outbox
from orchestrator.workers.pace import Pace
from orchestrator.workers.saver import SaveJob, Saver
from orchestrator.workers.tools import Batches, Tools, TrainerLike

PULSE_S = 0.5
PROGRESS_S = 0.1
"""Rank 0 tells its progress so often, the others with the pulse."""


class Member:
    """A worker's life. Public methods may be called from any thread; ``run`` is the one that works.

    Args:
        where: node identity and process number, for the driver.
        devices: the GPUs that Ray gave this process.
    """

    def __init__(self, ident: str, where: tuple[str, int], tools: Tools, outbox: Outbox, devices: tuple[str, ...] = ()) -> None:
        self.ident, self.node, self.pid = ident, *where
        self._devices = devices
        self._tools, self._outbox = tools, outbox
        self._saver = Saver(ident, tools, outbox)
        self._condition = threading.Condition()
        self._trainer: TrainerLike | None = None
        self._batches: Batches | None = None
        self._orders: list[tuple[JoinOrder, Any]] = []
        self._order: JoinOrder | None = None
        self._hold_generation = 0
        self._closing = False
        self._broken_off = ""
        self._lease = 0
        self._grants: dict[int, GrantOrder] = {}
        self._held: tuple[Any, int] | None = None
        self._loaded = 0
        self._held_for = 0
        self._is_held = False
        self._joined = False
        self._step: int | None = None
        self._position = 0
        self._address = ""
        self._doing = ev.Doing.IDLE
        self._watched: dict[str, float] = {}
        self._summaries: dict[str, float] = {}
        self._pace = Pace()
        self._told_s = 0.0

    # -- from the driver, any thread

    def join(self, order: JoinOrder, donated: Any) -> None:
        """Join a generation at the next step boundary; ``donated`` is a ``(state, position)`` where the order says so."""
        with self._condition:
            self._orders.append((order, donated))
            self._condition.notify_all()

    def grant(self, order: GrantOrder) -> None:
        """Extend the lease. Lease ends only grow; another generation's are ignored."""
        with self._condition:
            if self._order is None or order.generation != self._order.generation:
                return
            self._lease = max(self._lease, order.end)
            self._grants.update(dict.fromkeys(order.saves, order))
            self._condition.notify_all()

    def quiesce(self, generation: int, *, urgent: bool) -> None:
        """Hold the state at the next step boundary; where a peer is gone (``urgent``) a step under way is abandoned."""
        with self._condition:
            self._hold_generation = max(self._hold_generation, generation)
            self._condition.notify_all()
            stepping = (
                self._joined and self._order is not None and self._order.generation == generation and self._order.world_size > 1
            )
        if urgent and stepping and self._trainer is not None:
            self._trainer.abandon()

    def break_step(self, generation: int) -> None:
        """Make a step that hangs fail on all ranks."""
        if self._order is not None and self._order.generation == generation and self._trainer is not None:
            self._broken_off = "the step hung and was broken off"
            self._trainer.abandon()

    def forget_saves(self) -> None:
        """Drop saves that an earlier driver agreed on and that haven't come yet."""
        with self._condition:
            self._grants.clear()

    def held_state(self) -> Any:
        """``(state, position)`` for another worker; None where this one holds none."""
        with self._condition:
            return self._held

    def loaded_state(self, generation: int, timeout_s: float) -> Any:
        """``(state, position)`` that this member joins ``generation`` with, once it has read it; None after ``timeout_s``."""
        with self._condition:
            self._condition.wait_for(lambda: self._loaded == generation, timeout_s)
            return self._held if self._loaded == generation else None

    def close(self) -> None:
        """End ``run`` at the next step boundary."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def report(self) -> dict[str, Any]:
        """The fields of ``decide.machine.Report``."""
        with self._condition:
            order = self._order
            return {
                "worker": self.ident,
                "node": self.node,
                "pid": self.pid,
                "address": self._address,
                "generation": self._generation,
                "rank": order.rank if order else None,
                "world_size": order.world_size if order else 0,
                "step": self._step,
                "position": self._position,
                "lease_end": self._lease,
                "held": self._is_held,
                "joined": self._joined,
                "loaded": self._trainer is not None,
            }

    def pulse(self) -> None:
        """Give a sign of life."""
        if self._trainer is not None:
            generation = self._generation
            pace, watched, summaries = self._pace.steps_per_s, dict(self._watched), dict(self._summaries)
            self._outbox.pulse(ev.Pulse(self.ident, generation, self._step or 0, self._doing, pace, watched, summaries))

    @property
    def _generation(self) -> int:
        return self._order.generation if self._order else 0

    # -- the one thread that works

    def run(self) -> None:
        """Load the graph, then work until closed. Raises what loading raises."""
        self._trainer = self._tools.load()
        self._address = self._trainer.reserve_address()
        threading.Thread(target=self._pulse_for_ever, name="tfresume-pulse", daemon=True).start()
        self._outbox.put(ev.Warm(self.ident, self.node, self.pid, self._address, self._devices))
        while (work := self._next()) is not None:
            work()
        self._saver.close()
        self._close_batches()
        self._trainer.close()

    def _pulse_for_ever(self) -> None:
        while not self._closing:
            self.pulse()
            time.sleep(PULSE_S)

    def _next(self) -> Callable[[], None] | None:
        with self._condition:
            while not self._closing:
                if self._orders:
                    order, donated = self._orders.pop(0)
                    return lambda: self._join(order, donated)
                if self._hold_generation > self._held_for and self._hold_generation >= self._generation:
                    return lambda: self._hold("")
                if self._step in self._grants and (self._joined or self._is_held):
                    grant = self._grants.pop(self._step)
                    return lambda: self._save(grant)
                if self._joined and self._step is not None and self._step < self._lease:
                    return self._one_step
                self._doing = ev.Doing.IDLE
                self._condition.wait()
        return None

    def _join(self, order: JoinOrder, donated: Any) -> None:
        assert self._trainer is not None
        with self._condition:
            if order.generation <= max(self._generation, self._held_for):
                return  # it came too late: a newer one was joined, or this one was called off
            self._order, self._joined, self._is_held = order, False, False
            self._lease, self._grants, self._doing, self._broken_off = order.step, {}, ev.Doing.JOINING, ""
        try:
            group = self._tools.group(order)  # first: it settles the devices, and reading a checkpoint opens a session
            self._held = self._state_for(order, donated)
            state, position = self._held
            with self._condition:
                self._loaded = order.generation
                self._condition.notify_all()
            self._trainer.form(group)
            self._trainer.assign(state)
            self._close_batches()
            self._batches = self._tools.batches(order)
        except UserCodeError as error:
            self._user_failed(error, order.step)
        except OrchestratorError as error:
            bad = isinstance(error, CorruptCheckpoint)
            self._outbox.put(ev.JoinFailed(self.ident, order.generation, short(error.message), bad))
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver has to judge it, and this worker lives on
            self._outbox.put(ev.JoinFailed(self.ident, order.generation, last_line(error)))
        else:
            self._pace = Pace()
            with self._condition:
                self._joined, self._step, self._position = True, order.step, position
            self._outbox.put(ev.Joined(self.ident, order.generation, order.step))

    def _state_for(self, order: JoinOrder, donated: Any) -> tuple[Any, int]:
        match order.state_from:
            case StateFrom.OWN:
                assert self._held is not None
                return self._held
            case StateFrom.DONOR:
                return donated[0], order.position
            case StateFrom.CHECKPOINT:
                assert order.checkpoint is not None
                return self._tools.checkpoint_state(order.checkpoint), order.position

    def _one_step(self) -> None:
        assert self._trainer is not None
        assert self._batches is not None
        assert self._order is not None
        step = self._step or 0
        try:
            self._doing = ev.Doing.INPUT
            feeds = self._batches.current()
            self._doing = ev.Doing.STEP
            output = self._trainer.step(feeds)
        except EndOfData:
            self._outbox.put(ev.DataEnded(self.ident, self._order.generation, step))
            self._give_up_step("")
        except PeerLost as error:
            self._hold(self._broken_off or short(error.message))
        except UserCodeError as error:
            self._user_failed(error, step)
        else:
            self._finish_step(output)

    def _finish_step(self, output: Any) -> None:
        assert self._batches is not None
        assert self._order is not None
        self._batches.applied()
        with self._condition:
            self._step, self._held = output.step, None
            self._position += self._order.world_size
        self._watched = dict(output.watched)
        if output.summaries:
            self._summaries = dict(output.summaries)
        now_s = time.monotonic()
        first = self._pace.stepped(now_s)
        telling_s = PROGRESS_S if self._order.rank == 0 else PULSE_S
        if first or output.step >= self._lease or now_s - self._told_s >= telling_s:
            self._told_s = now_s
            self.pulse()

    def _user_failed(self, error: UserCodeError, step: int) -> None:
        assert self._order is not None
        self._outbox.put(ev.UserFailed(self.ident, self._order.generation, step, error.as_dict()))
        self._give_up_step("")

    def _give_up_step(self, why: str) -> None:
        assert self._trainer is not None
        assert self._order is not None
        if self._order.world_size > 1:
            self._trainer.abandon()
        self._hold(why)

    def _hold(self, why: str) -> None:
        """Stop between two steps, with the state in host memory."""
        assert self._trainer is not None
        if self._held is None and self._joined:
            try:
                self._held = (self._trainer.state(), self._position)
            except Exception as error:  # noqa: BLE001 - a worker that can't give its state is told from one that can
                why = f"{why}; the state can't be read: {last_line(error)}"
        self._address = self._trainer.reserve_address()
        held = self._held
        with self._condition:
            # Also for a generation that this worker was to join and never heard of, since the donor died before
            self._held_for = max(self._generation, self._hold_generation)
            self._joined, self._is_held, self._doing = False, True, ev.Doing.IDLE
            self._step = held[0].step if held else None
            self._position = held[1] if held else 0
        self._outbox.put(ev.Held(self.ident, self._held_for, self._step, self._position, self._address, why))

    def _save(self, grant: GrantOrder) -> None:
        assert self._trainer is not None
        began_s = time.monotonic()
        try:
            state = self._held[0] if self._held is not None else self._trainer.state()
        except Exception as error:  # noqa: BLE001 - a save that fails never stops training
            self._outbox.put(ev.SaveFailed(grant.generation, self._step or 0, last_line(error)))
            return
        self._saver.submit(SaveJob(state, self._position, grant, dict(self._watched), time.monotonic() - began_s))

    def _close_batches(self) -> None:
        if self._batches is not None:
            self._batches.close()
            self._batches = None
