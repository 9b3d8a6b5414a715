"""What does a worker do, and when does it stop?

Rule: one thread does all that touches the graph. Between two steps it looks into its mailbox, in
this order: end, join, hold, save, step. Whatever ends a step early leaves the variables as
they were, in a session that outlives all groups: a member of the next generation goes on from them,
and whoever has none gets a copy.

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
    CorruptState,
    EndOfData,
    OrchestratorError,
    PeerLost,
    UserCodeError,
)
from orchestrator.graph.inputs.batch_rows import rows_of
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.foreign_text import last_line, short
from orchestrator.workers.mailbox import Mailbox
from orchestrator.workers.obstacles import obstacle
from orchestrator.workers.orders import Donation, GrantOrder, JoinOrder
from orchestrator.workers.pace import Pace
from orchestrator.workers.runtime_protocol import Batches, Tools, TrainerLike
from orchestrator.workers.saver import SaveJob, Saver

log = logging.getLogger(__name__)

PROGRESS_S = 0.2
"""Rank 0 tells its progress so often, the others with the pulse. The driver renews grants by it,
every half second, and shows it to people.
"""
OTHERS_PROGRESS_S = 0.5
"""As ``member.PULSE_S``: of the other ranks only their lives are in question, since all make the
same steps.
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
        self._batches: Batches | None = None
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
        self._close_batches()
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
                    order, donated = mailbox.orders.pop(0)
                    return lambda: self._join(order, donated)
                # Not a second time, and not for a generation that a newer one has followed
                if (
                    mailbox.hold_generation > mailbox.held_for
                    and mailbox.hold_generation >= mailbox.generation
                ):
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

    def _join(self, order: JoinOrder, donated: Any) -> None:
        mailbox = self._mailbox
        with mailbox.condition:
            if order.generation <= max(mailbox.generation, mailbox.held_for):
                return  # it came too late: a newer one was joined, or this one was called off
            mailbox.order, mailbox.joined, mailbox.is_held, mailbox.met = order, False, False, False
            mailbox.granted, mailbox.granted_position = order.step, order.position
            mailbox.grants, mailbox.doing, mailbox.broken_off = (
                {},
                ev.Doing.JOINING,
                "",
            )
        try:
            self._form(order, donated)
        except UserCodeError as error:
            self._user_failed(error, order.step)
        except OrchestratorError as error:
            found = obstacle(error, loaded=mailbox.loaded == order.generation)
            self._event_buffer.put(
                ev.JoinFailed(
                    self._ident, order.generation, short(error.message), found, error.as_dict()
                )
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver has to judge it, and this worker lives on
            self._event_buffer.put(ev.JoinFailed(self._ident, order.generation, last_line(error)))
        else:
            self._pace = Pace()
            mailbox.steps_per_s = 0.0
            if order.state_from is StateFrom.RESULT:
                # until it has met its peers it isn't as far as the generation is
                mailbox.meeting = True
                self._meet(lambda took: self._joined(order) if took else self._still_behind())
                mailbox.meeting = False
            else:
                self._joined(order)
                self._meet(lambda _: None)

    def _still_behind(self) -> None:
        """No peer had the result after all: this worker isn't where the driver takes it to be, and
        needs the whole state.
        """
        self._mailbox.has_state = False
        self._give_up_step("no peer could give the result that this worker lacks")

    def _joined(self, order: JoinOrder) -> None:
        mailbox = self._mailbox
        with mailbox.condition:
            mailbox.joined, mailbox.step, mailbox.position, mailbox.loaded = (
                True,
                order.step,
                order.position,
                order.generation,
            )
        self._event_buffer.put(ev.Joined(self._ident, order.generation, order.step))

    def _form(self, order: JoinOrder, donated: Donation | None) -> None:
        """Be a member with the generation's state and batches."""
        mailbox = self._mailbox
        # first: it settles the devices, and reading a checkpoint opens a session
        group = self._tools.group(order)
        state = self._state_for(order, donated)
        self._trainer.join(group)
        if state is not None:
            # While it's being set the variables are neither the old state nor the new one
            mailbox.has_state = False
            self._trainer.assign(state)
        with mailbox.condition:
            mailbox.has_state = True
            if order.state_from is not StateFrom.RESULT:
                mailbox.step, mailbox.position, mailbox.loaded = (
                    order.step,
                    order.position,
                    order.generation,
                )
            mailbox.condition.notify_all()
        # Last, since the user's input function may take long: the state is there by then, and can
        # be given on if this fails
        self._close_batches()
        self._batches = self._tools.batches(order)

    def _state_for(self, order: JoinOrder, donated: Donation | None) -> Any:
        """The state to set; None where the variables are the generation's already, or will be when
        it has met.
        """
        match order.state_from:
            case StateFrom.OWN | StateFrom.RESULT:
                assert self._mailbox.has_state
                return None
            case StateFrom.DONOR:
                assert donated is not None
                self._compare(donated)
                return donated.state
            case StateFrom.CHECKPOINT:
                assert order.checkpoint is not None
                mailbox = self._mailbox
                mailbox.has_state = False  # the driver has found that no state here counts
                mailbox.doing = ev.Doing.STAGING
                state = self._tools.checkpoint_state(order.checkpoint)
                mailbox.doing = ev.Doing.JOINING
                if order.rank == 0:  # who writes saves
                    self._saver.measure(state)
                return state

    def _compare(self, donated: Donation) -> None:
        arrived = self._tools.digests(donated.state)
        damaged = sorted(
            name for name, digest in donated.digests.items() if arrived.get(name) != digest
        )
        if damaged:
            raise CorruptState(
                f"{len(damaged)} variables of the state that came from a peer arrived damaged, {damaged[0]} among them",
                remedy="Nothing: the group is formed anew; where it happens again, look at the machine's memory and network",
                details={"variables": damaged[:20]},
            )

    def _meet(self, then: Callable[[bool], None]) -> None:
        """Wait for the other ranks while the driver makes up its mind about the first steps."""
        try:
            took = self._trainer.meet()
        except (PeerLost, CorruptState) as error:
            self._hold(self._mailbox.broken_off or short(error.message))
        except UserCodeError as error:
            self._user_failed(error, self._mailbox.step or 0)
        else:
            self._mailbox.met = True
            then(took)

    # -- stepping

    def _one_step(self) -> None:
        assert self._batches is not None
        mailbox, step = self._mailbox, self._mailbox.step or 0
        try:
            mailbox.doing = ev.Doing.INPUT
            began_s = time.perf_counter()
            batches = self._batches.take(len(self._trainer.turns))
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
        assert self._batches is not None
        mailbox, order = self._mailbox, self._order
        self._batches.applied()
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
        telling_s = PROGRESS_S if order.rank == 0 else OTHERS_PROGRESS_S
        if first or not mailbox.may_step or now_s - self._told_s >= telling_s:
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
        )
        self._event_buffer.put(held)

    def _save(self, grant: GrantOrder) -> None:
        mailbox = self._mailbox
        if not self._saver.begin(grant, mailbox.step or 0, mailbox.position):
            return
        began_s = time.monotonic()
        mailbox.doing = ev.Doing.COPYING
        try:
            state = self._trainer.state_for_save()
        except Exception as error:  # noqa: BLE001 - a save that fails never stops training
            self._saver.fail(grant, mailbox.step or 0, mailbox.position, last_line(error))
            return
        stall_s = time.monotonic() - began_s
        mailbox.save_s += stall_s
        self._saver.submit(SaveJob(state, mailbox.position, grant, dict(mailbox.watched), stall_s))

    def _close_batches(self) -> None:
        if self._batches is not None:
            self._batches.close()
            self._batches = None
