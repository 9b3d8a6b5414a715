"""Are all runs below a URL found, each with its state, and is a run watched until its end?"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from launch.cli import run
from launch.runs.listing import list_runs
from launch.runs.status import status
from launch.runs.status_model import RunStatus
from launch.runs.watching import until_over
from orchestrator.errors import SourceError
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.run.journal import Journal
from orchestrator.store.run.lease import Lease, acquire
from orchestrator.store.run.run_record import RunRecord, create_run_record
from tests.launch import journals


def begun(place: Path, *events: journals.Event) -> Lease:
    output = open_location(str(place))
    lease = acquire(output, "ann@head pid 1")
    create_run_record(
        output, RunRecord(source="gs://b/run", fingerprint="f", name="m", started_step=500)
    )
    journal = Journal(output, lease.attempt)
    for event in [*journals.beginning(), *events]:
        journal.append(event)
    journal.flush()
    return lease


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    begun(tmp_path / "ann" / "live", journals.progress(10, 580))
    begun(tmp_path / "ann" / "over", journals.finish(20, 600)).release()
    begun(tmp_path / "bob" / "deep" / "er" / "stopped").release()
    (tmp_path / "data" / "none").mkdir(parents=True)
    return tmp_path


def test_runs_below_a_url_are_listed_with_state_step_and_rate_those_that_go_on_first(
    runs: Path,
) -> None:
    found = list_runs([str(runs)])
    assert [(Path(item.run).name, item.state) for item in found] == [
        ("live", "training"),
        ("over", "done"),
        ("stopped", "stopped"),
    ]
    live = found[0]
    assert (live.step, live.until_step, live.steps_per_s) == (580, 2000, 20.0)
    assert live.age_s is not None


def test_run_whose_heartbeat_is_old_is_silent_and_nobody_waits_for_it(runs: Path) -> None:
    began_s = time.monotonic()
    (found,) = list_runs([str(runs / "ann" / "live")], wall=lambda: time.time() + 1000)
    assert found.state == "silent"
    assert time.monotonic() - began_s < 20, "a lease is 30 s"


def test_damaged_run_is_listed_with_its_trouble_beside_the_others(runs: Path) -> None:
    (runs / "ann" / "over" / "_tfresume" / "lease" / "0001.json").write_text("{half")
    found = {Path(item.run).name: item for item in list_runs([str(runs)])}
    assert "0001.json" in found["over"].trouble
    assert found["live"].state == "training"


def test_directory_that_cannot_be_read_is_listed_beside_the_others(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Location.list

    def refusing(place: Location) -> tuple[FileInfo, ...]:
        if place.name == "data":
            raise SourceError("data may not be read")
        return listing(place)

    monkeypatch.setattr(Location, "list", refusing)
    found = {Path(item.run).name: (item.state, item.trouble) for item in list_runs([str(runs)])}
    assert found["data"] == ("unknown", "data may not be read")
    assert set(found) == {"live", "over", "stopped", "data"}
    with pytest.raises(SourceError, match="may not be read"):
        list_runs([str(runs / "data")])


def test_run_below_two_of_the_urls_is_listed_once(runs: Path) -> None:
    found = list_runs([str(runs), str(runs / "ann"), str(runs / "ann" / "live")])
    assert [Path(item.run).name for item in found] == ["live", "over", "stopped"]


def test_command_runs_prints_a_line_a_run_and_one_object(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["runs", str(runs)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4
    assert "580 of 2,000" in shown[1]
    assert run(["runs", str(runs / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": []}
    assert run(["runs"]) == 2


def test_run_is_watched_until_it_is_over(runs: Path) -> None:
    url = str(runs / "ann" / "live")
    shown: list[str] = []

    def ends(_: float) -> None:
        # another part than the first one's
        journal = Journal(open_location(url), 2)
        journal.append({**journals.finish(30, 700), "attempt": 1}, durable=True)

    def seen(found: RunStatus) -> None:
        shown.append(found.state)

    assert until_over(lambda: status(url), seen, ends).state == "done"
    assert shown == ["training", "done"]


def test_ctrl_c_ends_only_the_watching(runs: Path) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    url = str(runs / "ann" / "live")
    assert until_over(lambda: status(url), lambda _: None, interrupted).state == "training"
