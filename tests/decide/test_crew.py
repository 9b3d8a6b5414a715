"""Who counts for the next group, who sits where in it, and whose state goes on?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.decide import crew
from orchestrator.decide.actions import StateFrom
from orchestrator.decide.recovery import FRUITLESS_LIMIT
from orchestrator.decide.roster import Roster, Stage, Worker
from orchestrator.decide.run import Run
from tests.decide.situation import Driver


def member(rank: int | None, **known: Any) -> Worker:
    """One that stands after step 10 with the rows of its rank, as everybody else does."""
    ident = known.pop("ident", f"w{rank or 0:04}")
    known = {"step": 10, "position": 20, "held": True, "joined": True, **known}
    return Worker(ident, Stage.MEMBER, 0.0, 0.0, rank=rank, **known)


def warm(ident: str, node: str = "n") -> Worker:
    return Worker(ident, Stage.WARM, 0.0, 0.0, node=node)


def run_of(*workers: Worker, saving: Any = None, copies: int = 1, **fields: Any) -> Run:
    """A run of three at least two of which may train, with these workers."""
    run = Driver(count=3, smallest=2).run
    policy = replace(run.policy, table_copies=copies)
    policy = replace(policy, saving=replace(policy.saving, **(saving or {})))
    seated = sorted((one.rank, one.ident) for one in workers if one.rank is not None)
    members = tuple(ident for _, ident in seated)
    fields = {"members": members, "seats": members, "started": True, **fields}
    return replace(run, policy=policy, workers=Roster(workers), generation=1, **fields)


GOING = {"leaving": True}


@pytest.mark.parametrize(
    ("members", "alone"),
    [
        ([{}, {}, {}], True),
        ([{}, {}], True),
        ([{}, {}, GOING], True),
        ([{}, GOING, GOING], False),
        ([{}], False),
    ],
)
def test_group_goes_on_without_more_where_as_many_stay_as_may_train(
    members: list[dict[str, Any]], alone: bool
) -> None:
    run = run_of(*(member(rank, **known) for rank, known in enumerate(members)))
    assert crew.goes_on_without_more(run) is alone
    assert not crew.goes_on_without_more(replace(run, started=False))


def test_former_members_are_those_who_lost_their_rank_and_none_that_never_had_one() -> None:
    run = run_of(member(0), member(None, ident="w0007"), warm("w0008"))
    assert [worker.ident for worker in crew.former(run)] == ["w0007"]


@pytest.mark.parametrize(
    ("known", "seats"),
    [
        # Too few stay: one that is about to go is better than no group
        ([{}, GOING], ("w0000", "w0001")),
        ([{}, {"leaving": True, "spent": True}, GOING], ("w0000", "w0002")),
        ([{}, {"leaving": True, "spent": True}], None),
        ([{}, {}, GOING], ("w0000", "w0001")),
    ],
)
def test_member_that_is_about_to_go_sits_where_too_few_stay_unless_it_is_used_up(
    known: list[dict[str, Any]], seats: tuple[str, ...] | None
) -> None:
    run = run_of(*(member(rank, **each) for rank, each in enumerate(known)))
    assert crew.is_enough(run) is (seats is not None)
    if seats is not None:
        assert crew.next_seats(run) == seats


def test_standbys_join_a_living_group_in_their_order_and_begin_one_a_node_at_a_time() -> None:
    standbys = (warm("w0004", "a"), warm("w0005", "a"), warm("w0006", "b"))
    assert crew.next_seats(run_of(member(0), *standbys)) == ("w0000", "w0004", "w0005")
    assert crew.next_seats(run_of(*standbys)) == ("w0004", "w0006", "w0005")


def test_group_is_formed_until_it_has_come_to_nothing_too_often() -> None:
    run = run_of(member(0), member(1), fruitless=FRUITLESS_LIMIT - 1)
    assert crew.may_form(run, 0.0)
    assert not crew.may_form(replace(run, fruitless=FRUITLESS_LIMIT), 0.0)


PARTS = {"in_parts": True}


def test_group_is_formed_to_save_only_where_tables_are_divided_and_it_may_help() -> None:
    """Two of three are left, and hold all rows together."""
    shares = (member(0, share=(0, 3)), member(1, share=(1, 3)))
    run = run_of(*shares, saving=PARTS, copies=2, seats=("w0000", "w0001", "gone"))
    assert crew.forms_to_save(run)
    assert not crew.forms_to_save(replace(run, fruitless=FRUITLESS_LIMIT))
    whole = run_of(*shares, copies=2, seats=("w0000", "w0001", "gone"))
    assert not crew.is_complete(whole)
    assert not crew.forms_to_save(whole)


def test_furthest_state_goes_on_as_far_as_known_before_there_are_enough() -> None:
    assert crew.donor(run_of(member(0))) == "w0000"


@pytest.mark.parametrize(
    ("step", "in_parts", "reason"),
    [
        (None, True, "no living worker has the state"),
        (10, False, "no living worker has the state"),
        (
            10,
            True,
            "no living worker has some rows of the tables: each worker reads its own from the newest checkpoint",
        ),
    ],
)
def test_reason_for_a_checkpoint_says_whether_the_state_or_rows_are_lacking(
    step: int | None, in_parts: bool, reason: str
) -> None:
    run = run_of(member(0, step=step), saving={"in_parts": in_parts})
    assert crew.why_none_goes_on(run) == reason


def test_rows_stay_where_each_has_those_of_its_rank_and_the_state_that_goes_on() -> None:
    in_place = [member(rank, share=(rank, 2)) for rank in range(2)]
    found = crew.formation(run_of(*in_place, saving=PARTS, copies=2))
    assert found is not None
    assert (found.rows, found.states) == (None, (StateFrom.OWN, StateFrom.OWN))
    behind = member(1, share=(1, 2), step=7, position=14)
    found = crew.formation(run_of(in_place[0], behind, saving=PARTS, copies=2))
    assert found is not None
    assert found.states == (StateFrom.OWN, StateFrom.DONOR)
    assert found.rows is not None
    assert {each.holder for each in found.rows[1]} == {"w0000"}


def test_member_that_lacks_a_run_takes_all_where_its_rows_move() -> None:
    """Its own are those before that run; who has it holds all rows."""
    ahead = member(0, share=(1, 3), gives=True)
    lacks = member(1, share=(2, 3), takes=True, step=9, position=18)
    found = crew.formation(run_of(ahead, lacks, saving=PARTS, copies=3))
    assert found is not None
    assert found.states == (StateFrom.OWN, StateFrom.DONOR)
    assert found.rows is not None
    assert not found.catches_up


def test_nobody_catches_up_with_one_whose_rows_are_not_known() -> None:
    ahead = member(0, share=(1, 3), gives=True)
    lacks = [
        member(rank, share=(share, 3), takes=True, step=9, position=17)
        for rank, share in ((1, 0), (2, 2))
    ]
    run = run_of(ahead, *lacks, saving=PARTS, copies=2)
    found = crew.formation(run)
    assert found is not None
    assert found.catches_up
    unknown = run.workers.put(replace(ahead, share=None))
    assert crew.formation(replace(run, workers=unknown)) is None


def test_ranks_follow_the_rows_only_after_a_group_caught_up() -> None:
    """Who caught up sits elsewhere than its rows say."""
    run = run_of(member(0, share=(1, 2)), member(1, share=(0, 2)))
    assert crew.next_seats(run) == ("w0000", "w0001")
    assert crew.next_seats(replace(run, catches_up=True)) == ("w0001", "w0000")
    mixed = run_of(member(0, share=(1, 2)), member(1, share=(0, 3)), catches_up=True)
    assert crew.next_seats(mixed) == ("w0000", "w0001")


def test_member_steps_until_it_has_come_to_the_step_or_to_the_position_that_is_granted() -> None:
    run = run_of(member(0), granted_end=12, granted_position=30)
    assert run.may_step(11, 29)
    assert not run.may_step(12, 29)
    assert not run.may_step(11, 30), "its own counter stood still"
