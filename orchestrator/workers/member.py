"""What does the driver ask of a worker, and what does the worker tell?

Rule: the driver's calls come on any thread, only leave notes and never wait for a step;
``working.Work`` is the one thread that acts on them.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.workers.event_buffer import Outbox
from orchestrator.workers.mailbox import Desk
from orchestrator.workers.orders import Donation, GrantOrder, JoinOrder
from orchestrator.workers.runtime_protocol import Tools
from orchestrator.workers.worker_loop import Work

PULSE_S = 0.5


class Member:
    """A worker's life. All methods but ``run`` may be called from any thread; ``run`` is the one
    that works.

    Args:
        where: node identity and process number, for the driver.
        devices: the GPUs that Ray gave this process.
        group: the placement group that it lies in.
    """

    def __init__(
        self,
        ident: str,
        where: tuple[str, int],
        tools: Tools,
        outbox: Outbox,
        devices: tuple[str, ...] = (),
        group: str = "",
    ) -> None:
        self.ident, self.node, self.pid = ident, *where
        self._devices, self._group = devices, group
        self._outbox, self._tools = outbox, tools
        self._desk = Desk()
        self._work = Work(ident, tools, outbox, self._desk, self.pulse)

    def run(self) -> None:
        """Load the graph, then work until closed. Raises what loading raises."""
        threading.Thread(target=self._pulse_for_ever, name="tfresume-pulse", daemon=True).start()
        address = self._work.load()
        self._outbox.put(
            ev.Warm(self.ident, self.node, self.pid, address, self._devices, self._group)
        )
        self._work.until_closed()

    def join(self, order: JoinOrder, donated: Any) -> None:
        """Join a generation at the next step boundary; ``donated`` is a ``(state, position)`` where
        the order says so.
        """
        with self._desk.condition:
            self._desk.orders.append((order, donated))
            self._desk.condition.notify_all()

    def grant(self, order: GrantOrder) -> None:
        """Extend the lease. Lease ends only grow; another generation's are ignored."""
        desk = self._desk
        with desk.condition:
            if desk.order is None or order.generation != desk.order.generation:
                return
            desk.lease = max(desk.lease, order.end)
            desk.grants.update(dict.fromkeys(order.saves, order))
            desk.condition.notify_all()

    def quiesce(self, generation: int, *, urgent: bool) -> None:
        """Hold the state at the next step boundary; where a peer is gone (``urgent``) a step under
        way is abandoned.
        """
        desk = self._desk
        with desk.condition:
            desk.hold_generation = max(desk.hold_generation, generation)
            desk.condition.notify_all()
            in_group = (
                (desk.joined or desk.meeting)
                and desk.generation == generation
                and desk.order is not None
                and desk.order.world_size > 1
            )
        # One that still waits for its peers wouldn't come to a boundary by itself
        if in_group and (urgent or not desk.met) and desk.trainer is not None:
            desk.trainer.abandon()

    def break_step(self, generation: int) -> None:
        """Make a step that hangs fail on all ranks."""
        desk = self._desk
        if (
            desk.order is not None
            and desk.order.generation == generation
            and desk.trainer is not None
        ):
            desk.broken_off = "the step hung and was broken off"
            desk.trainer.abandon()

    def forget_saves(self) -> None:
        """Drop saves that an earlier driver agreed on and that haven't come yet."""
        with self._desk.condition:
            self._desk.grants.clear()

    def held_state(self) -> Donation | None:
        """A copy of the state for another worker; None where this one has none.

        It stands still meanwhile: who asks is to be a member of the next generation, and nobody
        steps before all have come.
        """
        desk = self._desk
        if desk.trainer is None or not desk.has_state:
            return None
        before, desk.doing = desk.doing, ev.Doing.COPYING
        try:
            state = desk.trainer.state()
        except Exception:
            desk.has_state = False  # this worker is no donor any more; whoever asked learns why
            raise
        finally:
            if desk.doing is ev.Doing.COPYING:
                desk.doing = before
        return Donation(state, desk.position, self._tools.digests(state))

    def loaded_state(self, generation: int) -> Donation | None:
        """The state that this member joins ``generation`` with, once it has read it; None if it
        won't join it any more.
        """
        desk = self._desk
        with desk.condition:
            desk.condition.wait_for(lambda: desk.loaded == generation or desk.is_past(generation))
        return self.held_state() if desk.loaded == generation else None

    def close(self) -> None:
        """End ``run`` at the next step boundary."""
        with self._desk.condition:
            self._desk.closing = True
            self._desk.condition.notify_all()

    def report(self) -> dict[str, Any]:
        """The fields of ``decide.machine.Report``."""
        desk = self._desk
        with desk.condition:
            return {
                "worker": self.ident,
                "node": self.node,
                "pid": self.pid,
                "address": desk.address,
                "generation": desk.generation,
                "rank": desk.order.rank if desk.order else None,
                "world_size": desk.order.world_size if desk.order else 0,
                "step": desk.step,
                "position": desk.position,
                "granted_end": desk.lease,
                "held": desk.is_held,
                "joined": desk.joined,
                "loaded": desk.trainer is not None,
                "devices": (desk.order and desk.order.devices) or self._devices,
                "group": self._group,
                "lent_group": desk.order.place if desk.order else "",
            }

    def pulse(self) -> None:
        """Give a sign of life."""
        desk = self._desk
        self._outbox.pulse(
            ev.Progress(
                self.ident,
                desk.generation,
                desk.step or 0,
                desk.doing,
                desk.steps_per_s,
                desk.batch_rows,
                dict(desk.watched),
                dict(desk.summaries),
                self._tools.moved_bytes(),
            )
        )

    def _pulse_for_ever(self) -> None:
        while not self._desk.closing:
            self.pulse()
            time.sleep(PULSE_S)
