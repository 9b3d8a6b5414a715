"""Does what a snapshot of the journal kept, and the events after it, say what the whole says?"""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.decide import goodput
from orchestrator.decide.goodput import Account, Spent
from orchestrator.driver.past import KINDS, fold
from orchestrator.journal.folding import Fold, Folds, folded, frozen, shape, take_all, thawed
from orchestrator.journal.parsing import parse_all
from tests.fakes import journals_at_random
from tests.launch import journals
from tests.turns import quick_in_turn

RECORDED = Path(__file__).parent.parent / "recorded_journal.jsonl"
Records = list[dict[str, Any]]
JOURNALS: dict[str, Records] = {
    "recorded": [json.loads(line) for line in RECORDED.read_text().splitlines()],
    "whole run": journals.whole_run(),
    "two drivers": [*journals.whole_run()[:20], *journals.beginning(2, 200.0, adopted=True)],
    **{f"seed {seed}": journals_at_random.records(seed) for seed in range(8)},
}
FIELDS = [
    (name, path)
    for name, kind in KINDS.items()
    for item in dataclasses.fields(kind)
    for path in (
        [(item.name, inner.name) for inner in dataclasses.fields(getattr(kind(), item.name))]
        if dataclasses.is_dataclass(getattr(kind(), item.name))
        else [(item.name,)]
    )
]


def made(records: Records, folds: Folds | None = None) -> Folds:
    folds = folds or {name: kind() for name, kind in KINDS.items()}
    take_all(folds, records)
    return folds


def passed_through_a_snapshot(folds: Folds) -> Folds:
    kept = json.loads(json.dumps({name: frozen(item) for name, item in folds.items()}))
    return {name: thawed(KINDS[name], kept[name]) for name in KINDS}


def states(folds: Folds) -> dict[str, Any]:
    return {name: frozen(item) for name, item in folds.items()}


@pytest.mark.parametrize("name", quick_in_turn(JOURNALS, 4))
def test_snapshot_after_any_event_and_the_rest_say_what_the_whole_journal_says(name: str) -> None:
    records = JOURNALS[name]
    whole = states(made(records))
    for split in [*range(0, len(records), 4), len(records)]:
        after = passed_through_a_snapshot(made(records[:split]))
        assert states(made(records[split:], after)) == whole, f"split at event {split}"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "path"), quick_in_turn(FIELDS, 4), ids=str)
def test_snapshot_that_forgets_a_field_is_noticed(
    name: str, path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no field is kept in vain, and the test above would see one that isn't."""
    monkeypatch.setattr(goodput, "KEPT", 4)
    monkeypatch.setattr("orchestrator.decide.standing.MOST_INCIDENTS", 1)
    chance = random.Random(0)
    for records in JOURNALS.values():
        whole = frozen(made(records)[name])
        for split in [*chance.sample(range(len(records)), 12), len(records)]:
            after = passed_through_a_snapshot(made(records[:split]))
            place: Any = after[name]
            fresh: Any = KINDS[name]()
            for step in path[:-1]:
                place, fresh = getattr(place, step), getattr(fresh, step)
            setattr(place, path[-1], getattr(fresh, path[-1]))
            if frozen(made(records[split:], after)[name]) != whole:
                return
    raise AssertionError(f"{name} needs no {'.'.join(path)}")


def test_account_whose_old_stretches_are_added_up_is_the_one_that_keeps_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: Records = [*journals.beginning()]
    for number in range(100):
        events += journals.save(10 + 10.0 * number, 1000 + number)
        events.append(journals.progress(15 + 10.0 * number, 1000 + number))
    events += journals.loss_of_rank_1(1100.0)
    kept = folded(Account, parse_all(events))
    monkeypatch.setattr(goodput, "KEPT", 16)
    bounded = folded(Account, parse_all(events))
    assert len(bounded.painted) < 40 < len(kept.painted)
    assert bounded.goodput().as_dict() == kept.goodput().as_dict()
    assert bounded.settled[Spent.SAVE_STALL.value] > 0


def test_what_is_kept_of_a_run_that_goes_on_for_ever_stops_growing() -> None:
    def kept(hours: int) -> int:
        events: Records = [*journals.beginning()]
        for number in range(60 * hours):
            at_s = 10 + 60.0 * number
            events += journals.save(at_s, number)
            events += [journals.progress(at_s + second, number) for second in range(5, 60, 5)]
            events.append({**journals.step_times(at_s, number), "warned": number})
            over = {"kind": "died", "recovered_s": 0.4, "steps_redone": 1, "worker": str(number)}
            events.append(journals.event(at_s, "incident", **over))
            events.append(journals.event(at_s, "warning", reason=f"trouble number {number}"))
            warm = {"worker": "w0001", "node": "a", "pid": 1, "seconds": 1.0, "place": str(number)}
            events.append(journals.event(at_s, "worker_warm", **warm))
        return len(json.dumps(states(made(events))).encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(goodput, "KEPT", 16)
        patch.setattr("orchestrator.driver.past.MOST_PLACES", 64)
        patch.setattr("orchestrator.decide.standing.MOST_WARNINGS", 64)
        patch.setattr("orchestrator.decide.standing.MOST_INCIDENTS", 64)
        assert kept(4) < 1.1 * kept(2)


def test_driver_that_was_taken_over_says_nothing_of_the_time_after() -> None:
    late = [
        *journals.beginning(),
        journals.event(100.0, "incident", kind="died", recovered_s=30.0, steps_redone=0),
        *journals.beginning(2, 50.0),
    ]
    account = folded(Account, parse_all(late)).goodput()
    assert account.wall_s == pytest.approx(50 + 6.5)
    assert account.as_dict()["useful_s"] == pytest.approx(43.5)


def test_what_a_snapshot_holds_has_a_name_that_changes_with_its_fields() -> None:
    @dataclasses.dataclass
    class One:
        a: int = 0

        def take(self, event: object) -> None:
            self.a += 1

    @dataclasses.dataclass
    class Other(One):
        b: int = 0

    kinds: list[type[Fold]] = [One, Other, *KINDS.values()]
    assert len({shape(kind) for kind in kinds}) == len(kinds)
    with pytest.raises(ValueError, match="not the fields of Other"):
        thawed(Other, frozen(One()))


def test_past_of_a_journal_says_who_was_left_and_what_is_owed() -> None:
    past = fold([*journals.beginning(), *journals.save(20, 600), *journals.loss_of_rank_1()])
    assert (past.newest_step, past.last_generation, past.next_worker(())) == (600, 2, 4)
    assert past.budgets(5, 100.0, journals.EPOCH + 40.0).entries[0].node == "node-b"
    left = past.left_behind(journals.EPOCH + 40.0)
    assert left is not None
    assert left.members == {"w0001": 0, "w0003": 1}
