"""Does what lies in an output, and what a look at it asks for, stay as it is however long the run
goes on?

Rule: a run with a take-over, a save and some events in each round, with the numbers from which
journal and lineage are put together made small. What is there after a third of the rounds is the
most that there may ever be, but for what is counted in levels.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver.past import KINDS
from orchestrator.store.checkpoints.retention import retain
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import Journal, read_journal_tail
from orchestrator.store.run.lineage import read_lineage, record_takeover
from orchestrator.store.run.snapshots import read_folds, write_snapshot
from tests.fakes import journals_at_random
from tests.store.runs import saved

ROUNDS, MERGE = 192, 4


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often what was asked of the store."""
    told: Counter[str] = Counter()
    call = Location.call

    def counted(self: Location, action: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        told[method] += 1
        return call(self, action, method, *args, **kwargs)

    monkeypatch.setattr(Location, "call", counted)
    return told


def objects_by_room(output: Location) -> Counter[str]:
    """How many files and directories lie where."""
    root = Path(output.path)
    found: Counter[str] = Counter()
    for path in root.rglob("*"):
        room = path.relative_to(root).parts
        found[room[1] if room[0] == "_tfresume" and len(room) > 1 else "checkpoints"] += 1
    return found


def one_round(output: Location, journal: Journal, number: int, events: list[Any]) -> None:
    record_takeover(output, 1, number, 10 * number)
    saved(output, 10 * number + 5, generation=number)
    retain(output, max_to_keep=3, keep_every_hours=10_000)
    for event in events[3 * number : 3 * number + 3]:
        journal.append(event, durable=True)


def look(output: Location, requests: Counter[str]) -> int:
    """What `status`, `checkpoints` and a driver's start read."""
    requests.clear()
    read_folds(output, KINDS)
    read_journal_tail(output, 5)
    read_lineage(output)
    list_checkpoints(output)
    return sum(requests.values())


@pytest.mark.turns(4, "what large ones cost")
@pytest.mark.slow
def test_output_of_a_run_that_goes_on_and_on_holds_no_more_and_costs_no_more_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requests: Counter[str]
) -> None:
    monkeypatch.setattr("orchestrator.store.run.journal.MERGE", MERGE)
    monkeypatch.setattr("orchestrator.store.run.lineage.CHAIN", 8)
    monkeypatch.setattr("orchestrator.store.run.lineage.RECORDS", 4)
    output = open_location(str(tmp_path / "run"))
    journal = Journal(output, 1, lambda: write_snapshot(output, KINDS))
    events = journals_at_random.records(1, 3 * ROUNDS + 3, attempts=1)
    most: list[Counter[str]] = [Counter(), Counter()]
    dearest = [0, 0]
    for number in range(1, ROUNDS + 1):
        one_round(output, journal, number, events)
        late = number > ROUNDS // 3
        most[late] |= objects_by_room(output)
        if number % 7 == 0:
            dearest[late] = max(dearest[late], look(output, requests))
    assert most[1]["lineage"] <= most[0]["lineage"]
    assert most[1]["checkpoints"] <= most[0]["checkpoints"]
    # One object more for every MERGE x MERGE parts, each as large as a day's events
    parts = 3 * ROUNDS * 2 / 3
    assert most[1]["journal"] <= most[0]["journal"] + parts / MERGE**2
    assert most[1].keys() == most[0].keys()
    assert dearest[1] <= dearest[0]
