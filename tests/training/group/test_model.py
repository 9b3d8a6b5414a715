"""Do small groups send what the model says, and does the document show the model's table?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.training.group import over_hosts, over_memory
from orchestrator.training.group.layout import Layout
from tests.training.group.model import Shape, table
from tests.training.group.test_contract import slot_arrays
from tests.training.group.test_levels import given_sum
from tests.training.group.threads import Threads

PAGE = Path(__file__).resolve().parents[3] / "docs" / "exchange-at-scale.md"


@pytest.mark.parametrize(("hosts", "each"), [(1, 2), (2, 2), (2, 4), (4, 2), (3, 2)])
def test_small_groups_send_what_the_model_says(
    monkeypatch: pytest.MonkeyPatch, hosts: int, each: int
) -> None:
    staging = 4096
    for module in (over_memory, over_hosts):
        monkeypatch.setattr(module, "STAGING_BYTES", staging)
    ranks = hosts * each
    dealt = [frozenset([rank]) for rank in range(ranks)]
    shape = Shape(hosts, each, Layout.of(slot_arrays("each", 0)).size, staging)
    assert shape.blocks > 2
    with Threads([f"host{rank % hosts}" for rank in range(ranks)]) as members:
        for group in members.groups:
            assert len(group._topology.peers(group.rank)) == shape.connections
        members.each(lambda group: given_sum(group, "each", ranks, dealt, 0))
        before = [
            (group._wires.moved, group._wires.messages, group._shared._phase)
            for group in members.groups
        ]
        members.each(lambda group: given_sum(group, "each", ranks, dealt, 1))
        after = [
            (group._wires.moved, group._wires.messages, group._shared._phase)
            for group in members.groups
        ]
    counted = [
        [now - then for now, then in zip(*pair, strict=True)]
        for pair in zip(after, before, strict=True)
    ]
    assert sum(moved for moved, _, _ in counted) == shape.bytes_of_all
    assert {messages for _, messages, _ in counted} == {shape.messages}
    assert {meetings for _, _, meetings in counted} == {shape.meetings}


def test_page_shows_the_models_table() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")
