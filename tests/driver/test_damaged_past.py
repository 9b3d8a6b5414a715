"""What does a driver make of a journal that is damaged when it takes the run up?"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import fsspec
import pytest
import stamina

from orchestrator.config import parse_config
from orchestrator.driver.claim import AGAIN, TOLD, Claim
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import Journal
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.launch import journals
from tests.store.runs import saved

LOSS, SAVED = "a0001-000002.jsonl", "a0001-000003.jsonl"


@pytest.fixture
def output(tmp_path: Path) -> Location:
    """A run whose first driver has ended: a part with its beginning, one with a loss, one with its
    last save.
    """
    found = open_location(str(tmp_path / "more"))
    lease = acquire(found, "first", lease_s=30.0)
    journal = Journal(found, 1)
    for event in journals.beginning():
        journal.append(event)
    journal.flush()
    journal.append(
        journals.event(30, "incident", kind="died", rank=1, worker="w0002", losses=2, reason="OOM"),
        durable=True,
    )
    record_takeover(found, 1, 1, 500)
    saved(found, 1100)
    label = "a0001-g0001/model.ckpt-1100"
    told = {"step": 1100, "generation": 1, "checkpoint": label}
    journal.append(journals.event(43, "save_committed", **told), durable=True)
    lease.release()
    return found


def part(output: Location, name: str) -> Path:
    return Path(output.child("_tfresume", "journal", name).path)


def taken(output: Location) -> Claim:
    config = parse_config({"source": "none", "output": output.url, "until_step": 2000})
    with Claim.take(config, output) as claim:
        return claim


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_driver_goes_on_with_all_that_can_be_read_and_names_what_cannot(
    output: Location, caplog: pytest.LogCaptureFixture
) -> None:
    before = taken(output).past
    assert (before.damaged, before.newest_step, before.next_worker(())) == ((), 1100, 4)
    cut(part(output, LOSS))
    with caplog.at_level(logging.WARNING):
        past = taken(output).past
    (told,) = past.damaged
    assert f"{LOSS} is damaged" in told
    assert "no longer count against the retry budgets" in told
    (warned,) = (record.getMessage() for record in caplog.records)
    assert warned.startswith(
        told.partition("; losses")[0] + ". Restore this one file from a backup"
    )
    assert past.last_config == before.last_config
    assert (past.next_worker(()), past.places) == (4, before.places)
    assert (past.newest_step, past.newest_label) == (1100, before.newest_label)


def test_checkpoint_that_only_a_damaged_part_told_of_is_found_in_the_store(
    output: Location,
) -> None:
    part(output, SAVED).write_bytes(b"\xff\xfe\n")
    past = taken(output).past
    assert (past.newest_step, past.newest_label) == (1100, "a0001-g0001/model.ckpt-1100")


def test_journal_that_is_damaged_all_over_is_told_in_a_few_words(output: Location) -> None:
    parts = sorted(part(output, LOSS).parent.iterdir())
    for number in range(4, 4 + 2 * TOLD):
        parts.append(part(output, f"a0001-{number:06d}.jsonl"))
    for path in parts:
        path.write_bytes(b"")
    told = taken(output).past.damaged
    assert len(told) == TOLD + 1
    assert told[-1] == f"{len(parts) - TOLD} more parts are damaged"


@pytest.mark.parametrize(
    ("answers_after", "damaged"), [(1, False), (AGAIN, False), (AGAIN + 1, True)]
)
def test_part_that_the_store_does_not_give_now_is_asked_for_again_and_then_done_without(
    output: Location, monkeypatch: pytest.MonkeyPatch, answers_after: int, damaged: bool
) -> None:
    # Requests that aren't tried again, for the sake of time
    monkeypatch.setattr(stamina, "retry_context", lambda **_: [nullcontext()])
    local = fsspec.get_filesystem_class("file")
    read: Callable[..., Any] = local.cat_file
    asked: list[str] = []

    def reading(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
        if Path(path).name == LOSS:
            asked.append(path)
            if len(asked) <= answers_after:
                raise TimeoutError("no answer")
        return read(self, path, *arguments, **options)

    monkeypatch.setattr(local, "cat_file", reading)
    past = taken(output).past
    assert bool(past.damaged) is damaged
    assert len(asked) == min(answers_after, AGAIN) + 1
    assert past.newest_step == 1100
