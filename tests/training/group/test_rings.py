"""Do members who never had to be woken still get what else passes through that connection?

Rule: who looks and finds all counts reached doesn't read the rings, so hundreds of steps fill his
buffer. Memory for the next layout must reach him all the same.
"""

from __future__ import annotations

import contextlib
import signal
import time

import numpy as np
import pytest

from orchestrator.errors import PeerLost
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.layout import Layout
from orchestrator.training.group.over_memory import RING
from tests.training.group.members import PLACES, Members, State

pytestmark = pytest.mark.slow

HELD = (((0,),), ((1,),), ((2,),))


def filled(state: State) -> int:
    """Ring the other members until their buffers are full; how many rings that were."""
    bells, rings = state.group._bells, 0
    for peer in bells.peers:
        with contextlib.suppress(BlockingIOError):
            while True:
                bells.socket_of(peer).send(RING)
                rings += 1
    return rings


def summed(state: State, values: int) -> float:
    arrays = [np.full(values, 1.0 + state.group.rank, np.float32)]
    wanted = Sum(Layout.of(arrays), 3, HELD, 1.0, 0)
    return float(state.group.all_reduce({(state.group.rank,): arrays}, wanted)[0][-1])


def test_new_memory_reaches_members_whose_buffers_are_full_of_rings() -> None:
    """It was taken for their end: a larger sum after some hundred steps broke the group."""
    with Members(PLACES["memory"](3)) as members:
        members.join(1)
        assert members.each(summed, 16) == [6.0] * 3
        members.tell(0, filled)
        assert members.answer(0) > 100
        assert members.each(summed, 10**6) == [6.0] * 3


def test_member_that_dies_with_its_buffer_full_of_rings_is_told_as_lost() -> None:
    with Members(PLACES["memory"](3)) as members:
        members.join(1)
        members.each(summed, 16)
        members.tell(0, filled)
        assert members.answer(0) > 100
        members.signal(2, signal.SIGSTOP)
        for rank in (0, 1):
            members.tell(rank, summed, 10**6)
        time.sleep(0.2)  # they wait for the one that stands still
        members.signal(2, signal.SIGKILL)
        for rank in (0, 1):
            with pytest.raises(PeerLost):
                members.answer(rank)
