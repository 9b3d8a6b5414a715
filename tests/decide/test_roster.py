"""Does a roster count what is in it, and leave earlier ones alone?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.roster import Roster, Stage, Tally, Worker

IDENTS = st.sampled_from([f"w{number:04d}" for number in range(1, 9)])
WORKERS = st.builds(
    Worker,
    IDENTS,
    st.sampled_from(Stage),
    since_s=st.just(0.0),
    heard_s=st.just(0.0),
    rank=st.none() | st.integers(0, 3),
    held=st.booleans(),
    joined=st.booleans(),
    leaving=st.booleans(),
    spent=st.booleans(),
)


def counted(workers: list[Worker]) -> Tally:
    """As a reader of ``Tally`` would count."""
    seated = [worker for worker in workers if worker.rank is not None]
    going = [worker for worker in seated if worker.leaving]
    staying = [worker for worker in workers if not worker.leaving]
    members = [worker for worker in workers if worker.stage is Stage.MEMBER]
    return Tally(
        staying=len(staying),
        standbys=sum(worker.stage is Stage.WARM for worker in staying),
        starting=sum(worker.stage is Stage.STARTING for worker in workers),
        spent=sum(worker.spent for worker in workers),
        running=sum(not worker.held for worker in seated),
        lacking=sum(not worker.joined for worker in seated),
        going=len(going),
        usable=sum(not worker.spent for worker in going),
        former=sum(worker.rank is None for worker in members),
    )


@given(st.lists(WORKERS | IDENTS))
def test_roster_is_a_dict_that_counts_and_earlier_ones_stay_as_they_were(
    changes: list[Worker | str],
) -> None:
    roster, plain = Roster(), dict[str, Worker]()
    for change in changes:
        before, was = roster, dict(plain)
        if isinstance(change, Worker):
            roster, plain[change.ident] = roster.put(change), change
        elif change in plain:
            roster = roster.without(change)
            del plain[change]
        assert dict(before) == was
        assert dict(roster) == plain
        assert list(roster) == sorted(plain)
        assert len(roster) == len(plain)
        assert roster.tally == counted(list(plain.values()))
    assert Roster(plain.values()).tally == roster.tally
    assert Roster().put_all(plain.values()) == roster


def test_roster_does_not_know_who_was_never_there() -> None:
    roster = Roster([Worker("w0001", Stage.WARM, 0.0, 0.0)])
    assert "w0001" in roster
    assert "w0002" not in roster
    assert roster.get("w0002") is None
    with pytest.raises(KeyError):
        roster.without("w0002")


def test_roster_in_which_nobody_has_come_or_gone_is_not_sorted_anew() -> None:
    roster = Roster(Worker(f"w{number}", Stage.WARM, 0.0, 0.0) for number in range(9))
    order = [*roster]
    changed = roster.put(Worker("w3", Stage.MEMBER, 0.0, 0.0))
    assert changed._order is roster._order
    assert [*changed] == order
    assert [*changed.put(Worker("w10", Stage.WARM, 0.0, 0.0))] == sorted([*order, "w10"])
