"""Do the commands that look at a run show all that a damaged journal leaves, and say which part is
damaged and what to do?

On the real command line, with real files that are damaged as disks and editors damage them.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from launch.cli import run
from launch.runs.status import status
from launch.runs.status_model import RunStatus
from launch.runs.watching import until_over
from orchestrator.errors import StorageUnavailable
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import Journal
from orchestrator.store.run.lease import Lease
from tests.launch import journals
from tests.launch.runs import recorded_run

LOST = "a0001-000002.jsonl"
"""The part with the loss of rank 1, which is damaged; those before and after it are whole."""


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "more"))


@pytest.fixture
def lease(output: Location) -> Lease:
    """A run in three parts."""
    held = recorded_run(output, journals.beginning())
    journal = Journal(output, 1)
    journal._part = 2
    for events in (journals.loss_of_rank_1(), [journals.progress(40, 1000), *finished()]):
        for event in events:
            journal.append(event)
        journal.flush()
    return held


def finished() -> list[journals.Event]:
    return [journals.finish(89, 2000)]


def part(output: Location, name: str = LOST) -> Path:
    return Path(output.child("_tfresume", "journal", name).path)


def cut_off(path: Path) -> None:
    """The incident, the part's last line, ends in its midst."""
    path.write_bytes(path.read_bytes()[:-40])


def garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff\xfe{{{\n" * 5)


def unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


Damage = Callable[[Path], None]
DAMAGES: tuple[Damage, ...] = (cut_off, garbage, unreadable)
every_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    assert run([*words, "--json"]) == 0
    told = capsys.readouterr()
    return json.loads(told.out), told.err


@every_damage
def test_status_of_a_damaged_journal_shows_the_rest_and_names_the_part(
    output: Location, lease: Lease, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    lease.release()
    whole, _ = answer(["status", output.url], capsys)
    damage(part(output))
    found, _ = answer(["status", output.url], capsys)
    (trouble,) = found["trouble"]
    assert LOST in trouble
    told_otherwise = {"trouble", "incidents", "steps_redone", "checkpoint_age_s", "journal_age_s"}
    told_otherwise |= {"goodput", "goodput_s", "generation"}
    assert {key: value for key, value in found.items() if key not in told_otherwise} == {
        key: value for key, value in whole.items() if key not in told_otherwise
    }
    assert (found["state"], found["step"]) == ("done", 2000)
    assert run(["status", output.url]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "trouble" in shown
    assert "step 2,000 of 2,000" in shown


@every_damage
def test_logs_of_a_damaged_journal_show_what_can_be_read_and_name_the_part(
    output: Location, lease: Lease, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = answer(["logs", output.url], capsys)
    assert whole["damaged"] == []
    damage(part(output))
    found, _ = answer(["logs", output.url], capsys)
    (told,) = found["damaged"]
    assert LOST in told
    kept = 3 if damage is cut_off else 0
    lost = {json.dumps(event) for event in journals.loss_of_rank_1()[kept:]}
    assert found["events"] == [
        event
        for event in whole["events"]
        if not any(_same(event, json.loads(text)) for text in lost)
    ]
    assert run(["logs", output.url]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == len(found["events"])
    assert shown.err.count("WARNING") == 1
    assert run(["logs", output.url, "-n", "2"]) == 0
    assert " finish " in capsys.readouterr().out


def _same(event: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(event.get(key) == value for key, value in other.items())


def test_logs_follow_through_damage_shows_each_event_once_and_says_it_once(
    output: Location,
    lease: Lease,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is followed was told by its number in the journal: an event that was damaged, or mended,
    meanwhile moved all that came after it.
    """
    part(output, "a0001-000003.jsonl").unlink()
    good = part(output).read_bytes()
    journal = Journal(output, 2)
    happenings: list[Callable[[], object]] = [
        lambda: garbage(part(output)),
        lambda: journal.append(journals.progress(50, 1100, 2), durable=True),
        lambda: part(output).write_bytes(good),
        lambda: journal.append(journals.finish(60, 2000, 2), durable=True),
    ]

    def sleep(_: float) -> None:
        happenings.pop(0)()

    monkeypatch.setattr("launch.commands.logs.time", SimpleNamespace(sleep=sleep))
    cut_off(part(output))
    assert run(["logs", output.url, "--follow"]) == 0
    assert not happenings
    told = capsys.readouterr()
    assert sum(" progress " in line for line in told.out.splitlines()) == 1
    assert " finish " in told.out.splitlines()[-1]
    assert sum(" incident " in line for line in told.out.splitlines()) == 1, "mended, so shown"
    assert " ".join(told.err.split()).count("1 of its 5 lines") == 1


@every_damage
def test_report_of_a_damaged_journal_is_made_and_names_the_part(
    output: Location, lease: Lease, damage: Damage, tmp_path: Path
) -> None:
    lease.release()
    damage(part(output))
    page = tmp_path / "report.html"
    assert run(["report", output.url, "-o", str(page)]) == 0
    text = page.read_text()
    trouble = text.split('<p class="line trouble">')[1].split("</p>")[0]
    assert LOST in trouble
    assert "step 2,000 is reached" in text.replace("2000", "2,000")
    assert "node-a" in text, "the workers of the part before it"


@every_damage
def test_runs_lists_a_run_with_a_damaged_journal_as_far_as_it_got(
    output: Location, lease: Lease, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(part(output))
    found, _ = answer(["runs", str(Path(output.path).parent)], capsys)
    (listed,) = found["runs"]
    assert (listed["state"], listed["step"]) == ("done", 2000)
    assert LOST in listed["trouble"]


def test_watch_goes_on_through_damage_and_through_a_store_that_is_silent_for_a_while(
    output: Location, lease: Lease
) -> None:
    part(output, "a0001-000003.jsonl").unlink()
    shown: list[tuple[str, str]] = []
    looks = iter(["as it is", "no answer", "as it is", "as it is"])

    def look() -> Any:
        if next(looks) == "no answer":
            raise StorageUnavailable("the store is silent", remedy="Wait")
        return status(output.url)

    happenings: list[Callable[[], object]] = [
        lambda: None,
        lambda: garbage(part(output)),
        lambda: Journal(output, 2).append(journals.finish(60, 2000, 1), durable=True),
    ]

    def wait(_: float) -> None:
        happenings.pop(0)()

    def show(seen: RunStatus) -> None:
        shown.append((seen.state, "; ".join(seen.trouble)))

    found = until_over(look, show, wait)
    assert found.state == "done"
    assert [state for state, _ in shown] == ["training", "training", "training", "done"]
    assert "the store is silent" in shown[1][1]
    assert LOST in shown[2][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damaged", "command"),
    [
        ("run.json", "status"),
        ("run.json", "report"),
        ("lease/0001.json", "status"),
        ("lease/0001.json", "report"),
        ("lineage/a0001-g0001.json", "status"),
        ("lineage/a0001-g0001.json", "report"),
    ],
)
def test_damaged_record_of_a_run_hides_nothing_else(
    output: Location,
    lease: Lease,
    damaged: str,
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = Path(output.child("_tfresume", *damaged.split("/")).path)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"{half")
    if command == "report":
        page = tmp_path / "report.html"
        assert run(["report", output.url, "-o", str(page)]) == 0
        text = page.read_text()
        assert text.count('<p class="line trouble">') == 1
        assert f"{place.name} is damaged" in text
        assert "died" in text
    else:
        found, _ = answer(["status", output.url], capsys)
        (trouble,) = found["trouble"]
        assert f"{place.name} is damaged" in trouble
        assert (found["state"], found["step"]) == ("done", 2000)
        assert len(found["incidents"]) == 1


@pytest.mark.parametrize("words", [["status"], ["report", "-o", "report.html"]])
def test_run_that_may_not_be_read_is_an_error_and_no_damage(
    output: Location, lease: Lease, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fsspec.get_filesystem_class("file"), "cat_file", refusing)
    assert run([*words[:1], output.url, *words[1:]]) == 2


def test_status_names_a_few_of_many_damaged_parts_and_counts_the_others(
    output: Location, lease: Lease, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4, 14):
        part(output, f"a0001-{number:06d}.jsonl").write_bytes(b"")
    assert run(["status", output.url]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("it's empty") == 4
    page = Path(output.path) / "report.html"
    assert run(["report", output.url, "-o", str(page)]) == 0
    assert page.read_text().count("it&#x27;s empty") == 4
    assert "And 6 more" in page.read_text()
    capsys.readouterr()
    assert "and 6 more, which --json names" in shown
    found, _ = answer(["status", output.url], capsys)
    assert len(found["trouble"]) == 10
