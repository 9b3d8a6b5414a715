"""Does each rank write its part of a save, and who has none only check?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.decide import events as ev
from orchestrator.errors import StorageUnavailable
from orchestrator.workers.event_buffer import EventBuffer
from orchestrator.workers.orders import GrantOrder
from orchestrator.workers.saver import SaveJob, Saver
from tests.fakes.group import Exchange, FakeState, FakeTools


def told(rank: int, parts: int, tools: FakeTools | None = None) -> Any:
    """What a rank of three tells of a save that so many write, the first being its writer."""
    buffer = EventBuffer()
    saver = Saver(f"w{rank}", tools or FakeTools(Exchange(), {}), buffer)
    grant = GrantOrder(1, 9, (8,), "w0", "a0001-g0001", 12, save=(1, 5), parts=parts)
    assert saver.begin(grant, rank, 8, 12)
    saver.submit(SaveJob(FakeState(8, np.ones(8)), rank, 12, grant, {}))
    saver.close()
    (event,) = buffer.poll(0, 0.0)[1]
    return event


def test_each_rank_that_has_a_part_writes_it_and_the_first_the_graph_besides() -> None:
    written, checked = told(0, 2), told(1, 2)
    assert isinstance(written, ev.SaveWritten)
    assert written.part is not None
    assert (written.files, written.part.files) == ((), ("data 0 of 2", "graph"))
    assert isinstance(checked, ev.SaveChecked)
    assert checked.part is not None
    assert (checked.save, checked.part.rank, checked.part.files) == (5, 1, ("data 1 of 2",))
    assert written.digests == checked.digests


@pytest.mark.parametrize("parts", [0, 2])
def test_rank_without_a_part_checks_and_writes_nothing(parts: int) -> None:
    tools = FakeTools(Exchange(), {})
    checked = told(2, parts, tools)
    assert isinstance(checked, ev.SaveChecked)
    assert checked.digests
    assert (checked.save, checked.part, tools.store) == (5, None, {})


def test_rank_without_a_part_that_cannot_check_fails_no_save() -> None:
    tools = FakeTools(Exchange(), {})

    def fail(state: FakeState) -> Any:
        raise StorageUnavailable("503")

    tools.digests = fail  # type: ignore[method-assign]
    for parts in (0, 2):
        checked = told(2, parts, tools)
        assert isinstance(checked, ev.SaveChecked)
        assert (checked.digests, checked.save, checked.part) == ({}, 5, None)
    assert isinstance(told(1, 2, tools), ev.SaveFailed)
