"""What does the driver ask of a worker, and what does the worker tell?

Rule: the driver's calls come on any thread, only leave notes and never wait for a step;
``worker_loop.Work`` is the one thread that acts on them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.decide.spans import RowSpan
from orchestrator.errors import WorkerLost
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.mailbox import Mailbox
from orchestrator.workers.orders import Donation, Given, GivenRows, GrantOrder, JoinOrder
from orchestrator.workers.runtime_protocol import Tools
from orchestrator.workers.worker_loop import Work


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
        event_buffer: EventBuffer,
        devices: tuple[str, ...] = (),
        group: str = "",
    ) -> None:
        self.ident, self.node, self.pid = ident, *where
        self._devices, self._group = devices, group
        self._event_buffer, self._tools = event_buffer, tools
        self._mailbox = Mailbox()
        self._pulsed_s = time.monotonic()
        self._work = Work(ident, tools, event_buffer, self._mailbox, self.pulse)

    def run(self) -> None:
        """Load the graph, then work until closed. Raises what loading raises."""
        address = self._work.load()
        self._event_buffer.put(
            ev.Warm(self.ident, self.node, self.pid, address, self._devices, self._group)
        )
        self._work.until_closed()

    def join(self, order: JoinOrder, given: Given) -> None:
        """Join a generation at the next step boundary, with what the order says that it needs."""
        with self._mailbox.condition:
            self._mailbox.orders.append((order, given))
            self._mailbox.condition.notify_all()

    def grant(self, order: GrantOrder) -> None:
        """Let the group run further. What is granted only grows; another generation's are ignored."""
        mailbox = self._mailbox
        with mailbox.condition:
            if mailbox.order is None or order.generation != mailbox.order.generation:
                return
            mailbox.granted = max(mailbox.granted, order.end)
            mailbox.granted_position = max(mailbox.granted_position, order.position)
            if order.saves and order.save > mailbox.save:
                mailbox.grants, mailbox.save = dict.fromkeys(order.saves, order), order.save
            mailbox.condition.notify_all()

    def quiesce(self, generation: int, *, urgent: bool) -> None:
        """Hold the state at the next step boundary; where a peer is gone (``urgent``) a step under
        way is abandoned.
        """
        mailbox = self._mailbox
        with mailbox.condition:
            mailbox.hold_generation = max(mailbox.hold_generation, generation)
            mailbox.condition.notify_all()
            in_group = (
                (mailbox.joined or mailbox.meeting)
                and mailbox.generation == generation
                and mailbox.order is not None
                and mailbox.order.world_size > 1
            )
        # One that still waits for its peers wouldn't come to a boundary by itself
        if in_group and (urgent or not mailbox.met) and mailbox.trainer is not None:
            mailbox.trainer.abandon()

    def break_step(self, generation: int) -> None:
        """Make a step that hangs fail on all ranks."""
        mailbox = self._mailbox
        if (
            mailbox.order is not None
            and mailbox.order.generation == generation
            and mailbox.trainer is not None
        ):
            mailbox.broken_off = "the step hung and was broken off"
            mailbox.trainer.abandon()

    def forget_saves(self, attempt: int) -> None:
        """Drop a save that a driver before ``attempt`` agreed on and that hasn't come yet."""
        mailbox = self._mailbox
        with mailbox.condition:
            if mailbox.save[0] < attempt:
                mailbox.grants.clear()

    def held_state(self) -> Donation | None:
        """A copy of the state for another worker, but for rows of divided tables; None where this
        one has none.

        It stands still meanwhile: who asks is to be a member of the next generation, and nobody
        steps before all have come.
        """
        mailbox = self._mailbox
        if mailbox.trainer is None or not mailbox.has_state:
            return None
        with self._copying():
            state = mailbox.trainer.rows.rest()
        return Donation(state, mailbox.position, self._tools.digests(state))

    def held_rows(self, wanted: Sequence[Sequence[RowSpan]]) -> list[GivenRows]:
        """For each of some workers copies of the rows that it lacks, while this one stands still.

        Raises:
            WorkerLost: there is no state here.
        """
        mailbox = self._mailbox
        trainer = mailbox.trainer
        if trainer is None or not mailbox.has_state or mailbox.step is None or not trainer.share:
            raise WorkerLost(
                f"worker {self.ident} has no rows to give",
                remedy="Nothing: the group is formed anew",
            )
        with self._copying():
            place = mailbox.step, mailbox.position
            return [GivenRows(*place, trainer.rows.give(spans)) for spans in wanted]

    @contextmanager
    def _copying(self) -> Iterator[None]:
        mailbox = self._mailbox
        before, mailbox.doing = mailbox.doing, ev.Doing.COPYING
        try:
            yield
        except Exception:
            mailbox.has_state = False  # this worker is no donor any more; whoever asked learns why
            raise
        finally:
            if mailbox.doing is ev.Doing.COPYING:
                mailbox.doing = before

    def loaded_state(self, generation: int) -> Donation | None:
        """The state that this member joins ``generation`` with, once it has read it; None if it
        won't join it any more.
        """
        mailbox = self._mailbox
        with mailbox.condition:
            mailbox.condition.wait_for(
                lambda: mailbox.loaded == generation or mailbox.is_past(generation)
            )
        return self.held_state() if mailbox.loaded == generation else None

    def close(self) -> None:
        """End ``run`` at the next step boundary."""
        with self._mailbox.condition:
            self._mailbox.closing = True
            self._mailbox.condition.notify_all()

    def report(self) -> dict[str, Any]:
        """The fields of ``decide.machine.WorkerReport``."""
        mailbox = self._mailbox
        with mailbox.condition:
            return {
                "worker": self.ident,
                "node": self.node,
                "pid": self.pid,
                "address": mailbox.address,
                "generation": mailbox.generation,
                "rank": mailbox.order.rank if mailbox.order else None,
                "world_size": mailbox.order.world_size if mailbox.order else 0,
                "step": mailbox.step,
                "position": mailbox.position,
                "granted_end": mailbox.granted,
                "granted_position": mailbox.granted_position,
                "held": mailbox.is_held,
                "joined": mailbox.joined,
                "loaded": mailbox.trainer is not None,
                "devices": (mailbox.order and mailbox.order.devices) or self._devices,
                "group": self._group,
                "share": mailbox.trainer.share if mailbox.trainer and mailbox.has_state else None,
                "lent_group": mailbox.order.place if mailbox.order else "",
            }

    def news(self, after: int, pulse_s: float) -> tuple[int, list[ev.Event]]:
        """What has happened, as soon as something has; at least each ``pulse_s`` also that this
        worker lives, and what it's at.

        Args:
            after: events up to this number have been heard.

        Returns:
            As ``EventBuffer.poll``.
        """
        return self.with_life(after, self._event_buffer.poll(after, pulse_s), pulse_s)

    def with_life(
        self, after: int, polled: tuple[int, list[ev.Event]], pulse_s: float
    ) -> tuple[int, list[ev.Event]]:
        """What was ``polled``, and a sign of life where nothing was or the last is ``pulse_s`` old.
        One that is sent only when nothing else is would never come from a rank that saves its part
        of the state every few steps, and the whole group would be taken to stand.
        """
        if polled[1] and time.monotonic() - self._pulsed_s < pulse_s:
            return polled
        self.pulse()
        return self._event_buffer.poll(after, 0.0)

    def pulse(self) -> None:
        """Give a sign of life now, whenever the next is due."""
        mailbox = self._mailbox
        self._pulsed_s = time.monotonic()
        with mailbox.condition:
            step, position = mailbox.step or 0, mailbox.position
        self._event_buffer.pulse(
            ev.Progress(
                self.ident,
                mailbox.generation,
                step,
                self._doing(),
                mailbox.steps_per_s,
                mailbox.batch_rows,
                dict(mailbox.watched),
                dict(mailbox.summaries),
                self._tools.moved_bytes(),
                position,
                self._tools.processor_s(),
                mailbox.steps_taken,
                self._spent(),
            )
        )

    def _spent(self) -> dict[str, float]:
        mailbox = self._mailbox
        of_steps = {} if mailbox.trainer is None else mailbox.trainer.spent
        return {"input": mailbox.input_s, **of_steps, "save": mailbox.save_s}

    def _doing(self) -> ev.Doing:
        doing, trainer = self._mailbox.doing, self._mailbox.trainer
        inside = doing is ev.Doing.STEP and trainer is not None and trainer.computing
        return ev.Doing.COMPUTING if inside else doing
