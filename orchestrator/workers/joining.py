"""How does a worker become a member of a generation?

Rule: group, then state, then batches. The state is its own, a member's, or a checkpoint's, and so are
rows of divided tables; what comes from a member is compared with its checksums before anything is set. A failure is told to the
driver, and the worker lives on with whatever state it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.decide import events as ev
from orchestrator.decide.actions import StateFrom
from orchestrator.errors import CorruptState, OrchestratorError, UserCodeError
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.foreign_text import last_line, short
from orchestrator.workers.mailbox import Mailbox
from orchestrator.workers.obstacles import obstacle
from orchestrator.workers.orders import Donation, Given, GivenRows, JoinOrder
from orchestrator.workers.runtime_protocol import Batches, Tools, TrainerLike
from orchestrator.workers.saver import Saver


class Joining:
    """One worker's way into one generation after another. All methods belong to the working thread.

    Attributes:
        batches: this rank's, of the generation that it joined last; None before the first, and
            where that one's couldn't be opened.
    """

    def __init__(
        self, ident: str, tools: Tools, event_buffer: EventBuffer, mailbox: Mailbox, saver: Saver
    ) -> None:
        self._ident, self._tools, self._event_buffer = ident, tools, event_buffer
        self._mailbox, self._saver = mailbox, saver
        self.batches: Batches | None = None
        self._took = (0, 0)

    def join(self, order: JoinOrder, given: Given) -> bool:
        """Take the generation's group, state and batches; whether that went well. Else the driver
        has been told, or the order came too late.

        Raises:
            UserCodeError: the user's input function or graph failed.
        """
        mailbox = self._mailbox
        with mailbox.condition:
            if order.generation <= max(mailbox.generation, mailbox.held_for):
                return False  # it came too late: a newer one was joined, or this one was called off
            mailbox.order, mailbox.joined, mailbox.is_held, mailbox.met = order, False, False, False
            mailbox.granted, mailbox.granted_position = order.step, order.position
            mailbox.grants, mailbox.doing, mailbox.broken_off = {}, ev.Doing.JOINING, ""
        self._took = (0, 0)
        try:
            self._form(order, given)
        except UserCodeError:
            raise
        except OrchestratorError as error:
            self.fail(order, error, loaded=mailbox.loaded == order.generation)
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver has to judge it, and this worker lives on
            self._event_buffer.put(ev.JoinFailed(self._ident, order.generation, last_line(error)))
        else:
            return True
        return False

    def fail(self, order: JoinOrder, error: OrchestratorError, *, loaded: bool) -> None:
        """The driver learns what is in the way. ``loaded``: the state was there already."""
        found = obstacle(error, loaded=loaded)
        self._event_buffer.put(
            ev.JoinFailed(
                self._ident, order.generation, short(error.message), found, error.as_dict()
            )
        )

    def tell(self, order: JoinOrder) -> None:
        """The driver learns that this worker is a member, as far as the generation is."""
        mailbox = self._mailbox
        with mailbox.condition:
            mailbox.joined, mailbox.step, mailbox.position, mailbox.loaded = (
                True,
                order.step,
                order.position,
                order.generation,
            )
        self._event_buffer.put(ev.Joined(self._ident, order.generation, order.step, *self._took))

    def close_batches(self) -> None:
        """Close the user's input of the generation before, where there was one."""
        if self.batches is not None:
            self.batches.close()
            self.batches = None

    @property
    def _trainer(self) -> TrainerLike:
        assert self._mailbox.trainer is not None
        return self._mailbox.trainer

    def _form(self, order: JoinOrder, given: Given) -> None:
        """Be a member with the generation's state and batches."""
        mailbox = self._mailbox
        # first: it settles the devices, and reading a checkpoint opens a session
        group = self._tools.group(order)
        state = self._state_for(order, given.state)
        self._compare_rows(order, given.rows)
        self._trainer.join(group)
        if state is not None:
            # While it's being set the variables are neither the old state nor the new one
            mailbox.has_state = False
            self._trainer.assign(state)
        if order.moves:
            mailbox.has_state = False
            pieces = [piece for rows in given.rows for piece in rows.pieces]
            self._took = self._trainer.rows.take((order.rank, order.world_size), pieces)
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
        self.close_batches()
        self.batches = self._tools.batches(order)

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
                state = self._tools.checkpoint_state(
                    order.checkpoint, (order.rank, order.world_size)
                )
                mailbox.doing = ev.Doing.JOINING
                self._saver.measure(self._tools.own_part(state, order.rank, order.world_size))
                return state

    def _compare_rows(self, order: JoinOrder, given: Sequence[GivenRows]) -> None:
        for rows in given:
            if (rows.step, rows.position) != (order.step, order.position):
                own, other = (order.step, order.position), (rows.step, rows.position)
                raise CorruptState(
                    f"rows have come that are of step and position {other}, and the group's state is of {own}",
                    remedy="Nothing: the group is formed anew",
                )
            self._trainer.rows.compare(rows.pieces)

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
