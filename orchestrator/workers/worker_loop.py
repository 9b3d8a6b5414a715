"""What does a worker do, and when does it stop?

Rule: one thread does all that touches the graph. Between two steps it looks into its mailbox, in
this order: end, join (``joining``), hold, save, step. Whatever ends a step early leaves the
variables as they were, in a session that outlives all groups: a member of the next generation goes
on from them, and whoever has none gets a copy.

::

    loading ─► warm ─► joining ─► stepping ◄─► idle at the grant's end
                         ▲            │  peer lost, end of data, user error, asked to stop
                         └── held ◄───┘
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.errors import (
    CorruptCheckpoint,
    CorruptState,
    EndOfData,
    PeerLost,
    UserCodeError,
)
from orchestrator.graph.inputs.batch_rows import rows_of
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.foreign_text import last_line, short
from orchestrator.workers.joining import Joining
from orchestrator.workers.mailbox import Mailbox
from orchestrator.workers.orders import Given, GrantOrder, JoinOrder
from orchestrator.workers.pace import Pace
from orchestrator.workers.runtime_protocol import Tools, TrainerLike
from orchestrator.workers.saver import SaveJob, Saver
from orchestrator.workers.standing_still import StandingStill

log = logging.getLogger(__name__)

PROGRESS_S = 0.2
"""Rank 0 tells its progress so often: the driver renews grants by it, and shows it to people. All
make the same steps, so that of the other ranks only their lives are in question, which they tell
when they're asked (``Member.news``).
"""
READY_AFTER_S = 1.0
"""Who is asked for nothing for so long is a standby. At a run's start, or in a recovery, the
members need the processor more.
"""


class Work:
    """The working thread of one worker. All methods belong to it.

    Args:
        tell_progress: give a sign of life now.
    """

    def __init__(
        self,
        ident: str,
        tools: Tools,
        event_buffer: EventBuffer,
        mailbox: Mailbox,
        tell_progress: Callable[[], None],
    ) -> None:
        self._ident, self._tools, self._event_buffer, self._mailbox, self._tell_progress = (
            ident,
            tools,
            event_buffer,
            mailbox,
            tell_progress,
        )
        self._saver = Saver(ident, tools, event_buffer)
        self._joining = Joining(ident, tools, event_buffer, mailbox, self._saver)
        self._standing = StandingStill(mailbox, self._saver, tools)
        self._pace = Pace()
        self._told_s = 0.0
        self._ready = False

    def load(self) -> str:
        """Import TensorFlow and the graph; the address under which peers reach this worker. Raises
        what loading raises.
        """
        trainer = self._tools.load()
        self._mailbox.address = trainer.address
        self._mailbox.trainer = trainer
        return self._mailbox.address

    def until_closed(self) -> None:
        """Work until the mailbox is closed."""
        while (work := self._next()) is not None:
            work()
        self._saver.close()
        self._joining.close_batches()
        self._trainer.close()

    @property
    def _trainer(self) -> TrainerLike:
        assert self._mailbox.trainer is not None
        return self._mailbox.trainer

    @property
    def _order(self) -> JoinOrder:
        assert self._mailbox.order is not None
        return self._mailbox.order

    def _next(self) -> Callable[[], None] | None:
        mailbox = self._mailbox
        with mailbox.condition:
            while not mailbox.closing:
                if mailbox.orders:
                    order, given = mailbox.orders.pop(0)
                    return lambda: self._join(order, given)
                if mailbox.must_hold:
                    return lambda: self._hold("")
                due = mailbox.save_due() if mailbox.joined or mailbox.is_held else None
                if due is not None:
                    return functools.partial(self._save, due)
                if mailbox.joined and mailbox.may_step:
                    return self._one_step
                mailbox.doing = ev.Doing.IDLE
                if self._ready or mailbox.generation:
                    mailbox.condition.wait()
                elif not mailbox.condition.wait(READY_AFTER_S):
                    return self._get_ready
        return None

    def _get_ready(self) -> None:
        """Nobody needs this worker now: it does what it can for the moment when somebody does."""
        self._ready = True
        try:
            self._trainer.get_ready()
            self._tools.import_input()
        except Exception as error:  # noqa: BLE001 - a take-over works without it, only slower; what is really wrong is told then
            log.debug("getting ready failed: %s", last_line(error))

    # -- joining

    def _join(self, order: JoinOrder, given: Given) -> None:
        mailbox = self._mailbox
        self._standing.end()
        try:
            formed = self._joining.join(order, given)
        except UserCodeError as error:
            self._user_failed(error, order.step)
            return
        if not formed:
            return
        self._pace = Pace()
        mailbox.steps_per_s = 0.0
        if order.state_from is StateFrom.RESULT:
            # until it has met its peers it isn't as far as the generation is
            mailbox.meeting = True
            self._meet(lambda took: self._joining.tell(order) if took else self._still_behind())
            mailbox.meeting = False
        elif order.state_from is StateFrom.CHECKPOINT and self._trainer.agrees:
            # What was read in parts counts when all have come and found it whole; until then this
            # one waits for those who still read
            mailbox.meeting, mailbox.doing = True, ev.Doing.IDLE
            self._meet(lambda _: self._joining.tell(order))
            mailbox.meeting = False
        else:
            self._joining.tell(order)
            self._meet(lambda _: None)

    def _still_behind(self) -> None:
        """No peer had the result after all: this worker isn't where the driver takes it to be, and
        needs the whole state.
        """
        self._mailbox.has_state = False
        self._give_up_step("no peer could give the result that this worker lacks")

    def _meet(self, then: Callable[[bool], None]) -> None:
        """Wait for the other ranks while the driver makes up its mind about the first steps."""
        try:
            took = self._trainer.meet()
        except (PeerLost, CorruptState) as error:
            self._hold(self._mailbox.broken_off or short(error.message))
        except CorruptCheckpoint as error:
            self._mailbox.has_state = False
            self._joining.fail(self._order, error, loaded=False)
        except UserCodeError as error:
            self._user_failed(error, self._mailbox.step or 0)
        else:
            self._mailbox.met = True
            then(took)

    # -- stepping

    def _one_step(self) -> None:
        source = self._joining.batches
        assert source is not None
        mailbox, step = self._mailbox, self._mailbox.step or 0
        try:
            mailbox.doing = ev.Doing.INPUT
            began_s = time.perf_counter()
            batches = source.take(len(self._trainer.turns))
            mailbox.input_s += time.perf_counter() - began_s
            mailbox.doing = ev.Doing.STEP
            output = self._trainer.step(batches)
        except EndOfData:
            self._event_buffer.put(ev.DataEnded(self._ident, self._order.generation, step))
            self._give_up_step("")
        except PeerLost as error:
            self._hold(mailbox.broken_off or short(error.message))
        except UserCodeError as error:
            self._user_failed(error, step)
        else:
            self._finish_step(batches, output)

    def _finish_step(self, batches: Sequence[Mapping[str, Any]], output: Any) -> None:
        assert self._joining.batches is not None
        mailbox, order = self._mailbox, self._order
        self._joining.batches.applied()
        with mailbox.condition:
            mailbox.step = output.step
            mailbox.position = self._trainer.position
        mailbox.steps_taken += 1
        mailbox.watched = dict(output.watched)
        if output.summaries:
            mailbox.summaries = dict(output.summaries)
        now_s = time.monotonic()
        first = self._pace.stepped(now_s)
        mailbox.steps_per_s = self._pace.steps_per_s
        if first:
            mailbox.batch_rows = rows_of(batches[0])
        shown = order.rank == 0 and now_s - self._told_s >= PROGRESS_S
        if first or not mailbox.may_step or shown:
            self._told_s = now_s
            self._tell_progress()

    def _user_failed(self, error: UserCodeError, step: int) -> None:
        self._event_buffer.put(
            ev.UserFailed(self._ident, self._order.generation, step, error.as_dict())
        )
        self._give_up_step("")

    def _give_up_step(self, why: str) -> None:
        if self._order.world_size > 1:
            self._trainer.abandon()
        self._hold(why)

    # -- standing still

    def _hold(self, why: str) -> None:
        """Stop between two steps; the state stays where it is."""
        mailbox = self._mailbox
        with mailbox.condition:
            # Also for a generation that this worker was to join and never heard of, since the donor
            # died before
            mailbox.held_for = max(mailbox.generation, mailbox.hold_generation)
            mailbox.joined, mailbox.is_held, mailbox.doing = False, True, ev.Doing.IDLE
            mailbox.step = mailbox.step if mailbox.has_state else None
            mailbox.position = mailbox.position if mailbox.has_state else 0
            mailbox.condition.notify_all()
        trainer, has = self._trainer, mailbox.has_state
        held = ev.Held(
            self._ident,
            mailbox.held_for,
            mailbox.step,
            mailbox.position,
            mailbox.address,
            why,
            trainer.size_bytes if has else 0,
            trainer.runs if has else 0,
            has and trainer.can_give,
            has and trainer.can_take,
            trainer.dead_peers if mailbox.held_for == mailbox.generation else (),
            trainer.share if has else None,
        )
        self._event_buffer.put(held)

    def _save(self, grant: GrantOrder) -> None:
        mailbox, rank = self._mailbox, self._order.rank
        place = mailbox.step or 0, mailbox.position
        if not self._saver.begin(grant, rank, *place):
            return
        began_s = time.monotonic()
        mailbox.doing = ev.Doing.COPYING
        try:
            which = (grant.save, grant.over) if grant.parts else ()
            state = self._trainer.state_for_save(*which)
        except Exception as error:  # noqa: BLE001 - a save that fails never stops training
            self._saver.fail(grant, rank, *place, last_line(error))
            return
        about = (state, rank, mailbox.position, grant, dict(mailbox.watched))
        if state.live is None:
            self._saver.submit(SaveJob(*about, time.monotonic() - began_s))
        else:
            self._standing.until_sent(SaveJob(*about, still_since_s=began_s))
        mailbox.save_s += time.monotonic() - began_s
