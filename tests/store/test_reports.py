"""What is told of a run's checkpoints from its output alone?"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import SourceError, StorageUnavailable
from orchestrator.store.bundle.folded import Folded
from orchestrator.store.checkpoints import reports, run_checkpoints, sample
from orchestrator.store.checkpoints.candidates import Candidate
from orchestrator.store.checkpoints.reports import CheckpointRow, checkpoints_report
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.evaluations import Holds
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.run.run_record import RunRecord, create_run_record
from tests.store.chains import Run
from tests.store.damage import flip
from tests.store.runs import saved, uploaded

FULL, SECOND, THIRD, LATER = (
    f"a0001-g0001/{name}" for name in ("m-1", "m-2.changed", "m-3.changed", "m-4")
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A full save, two of changed rows over it, and a full one later."""
    output = open_location(str(tmp_path_factory.mktemp("made") / "out"))
    record_takeover(output, 1, 1, 0)
    run = Run(40, 2)
    for save in (run.saved, run.saved_changes, run.saved_changes, run.saved):
        run.train()
        save(output)
    return output


@pytest.fixture
def output(made: Location, tmp_path: Path) -> Location:
    shutil.copytree(made.path, tmp_path / "out")
    return open_location(str(tmp_path / "out"))


def rows(output: Location, *, verify: bool = False) -> dict[str, CheckpointRow]:
    return {row.label: row for row in checkpoints_report(output, verify=verify).checkpoints}


def told(found: dict[str, CheckpointRow]) -> dict[str, tuple[str, str]]:
    return {label: (row.state, row.why) for label, row in found.items()}


def quick_look_at_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of checkpoints as small as these it sees everything otherwise."""
    monkeypatch.setattr(sample, "WHOLE_SHARD_BYTES", 0)
    monkeypatch.setattr(sample, "SAMPLE_TENSOR_BYTES", 8)


GOOD = ("good", "")


def test_report_says_of_each_checkpoint_what_its_listing_and_its_manifest_say(
    tmp_path: Path,
) -> None:
    output = open_location(str(tmp_path / "out"))
    record_takeover(output, 1, 1, 0)
    saved(output, 5, parent="a0000-g0001/model.ckpt-1", position=40, world_size=3)
    uploaded(output, 7, generation=2)
    for file in Path(output.path, "a0001-g0001").iterdir():
        os.utime(file, (1_000.0, 1_000.0))
    os.utime(Path(output.path, "a0001-g0001", "model.ckpt-5.index"), (1_004.0, 1_004.0))
    for file in Path(output.path, "a0001-g0002").iterdir():
        os.utime(file, (2_000.0, 2_000.0))
    sizes = [
        sum(file.stat().st_size for file in place.iterdir() if ".manifest" not in file.name)
        for place in sorted(Path(output.path).glob("a000*"))
    ]
    report = checkpoints_report(output, now=lambda: 1_010.5)
    unfinished, good = report.as_dict()["checkpoints"]
    assert good == {
        "label": "a0001-g0001/model.ckpt-5",
        "step": 5,
        "attempt": 1,
        "generation": 1,
        "size_bytes": sizes[0],
        "modified": 1_004.0,
        "age_s": 6.5,
        "state": "good",
        "why": "",
        "verified": "quick",
        "parent": "a0000-g0001/model.ckpt-1",
        "position": 40,
        "world_size": 3,
        "kept_for": "",
        "stands_on": (),
    }
    assert unfinished == {
        **good,
        "label": "a0001-g0002/model.ckpt-7",
        "step": 7,
        "generation": 2,
        "size_bytes": sizes[1],
        "modified": 2_000.0,
        "age_s": 0.0,  # another machine's clock is ahead of this one's
        "state": "fenced",
        "why": unfinished["why"],
        "parent": None,
        "position": None,
        "world_size": None,
    }
    assert report.checkpoints[0].manifest is None
    assert report.checkpoints[1].manifest is not None
    assert report.checkpoints[1].manifest.step == 5
    (link,) = report.lineage
    assert report.as_dict() == {
        "output": output.shown,
        "checkpoints": [unfinished, good],
        "lineage": [link.model_dump()],
    }


def test_save_without_a_manifest_is_incomplete(output: Location) -> None:
    Path(output.path, f"{LATER}.manifest.json").unlink()
    row = rows(output)[LATER]
    assert row.state == "incomplete"
    assert row.why == "it was never committed: the save didn't finish, or is under way"


def test_store_that_tells_no_time_leaves_a_checkpoint_without_an_age(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = run_checkpoints.scan_all

    def timeless(item: Checkpoint) -> Checkpoint:
        files = {
            suffix: replace(file, modified=None) for suffix, file in item.candidate.files.items()
        }
        candidate = Candidate(item.candidate.directory, item.candidate.prefix, files)
        return replace(item, candidate=candidate)

    monkeypatch.setattr(
        reports,
        "scan_all",
        lambda *words: tuple(tuple(timeless(item) for item in items) for items in scanned(*words)),
    )
    assert {(row.modified, row.age_s) for row in rows(output).values()} == {(None, None)}


@pytest.mark.parametrize("deep", [True, False])
def test_every_byte_and_every_row_is_looked_at_only_where_that_is_asked_for(
    output: Location, monkeypatch: pytest.MonkeyPatch, deep: bool
) -> None:
    folded: list[Folded] = []
    monkeypatch.setattr(Folded, "check_rows", lambda self: folded.append(self))
    quick_look_at_little(monkeypatch)
    flip(Path(output.path, f"{LATER}.data-00000-of-00002"), 20)
    found = rows(output, verify=deep)
    assert {row.verified for row in found.values()} == {"deep" if deep else "quick"}
    assert found[LATER].state == ("corrupt" if deep else "good")
    assert ("fails its checksum" in found[LATER].why) is deep
    assert len(folded) == (2 if deep else 0), "one for each save of changed rows"


def test_what_stands_on_a_corrupt_save_is_corrupt_and_says_on_which(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folded, "check_rows", lambda self: None)
    quick_look_at_little(monkeypatch)
    flip(Path(output.path, f"{FULL}.data-00000-of-00002"), 20)
    assert set(told(rows(output)).values()) == {GOOD}
    found = told(rows(output, verify=True))
    on_it = ("corrupt", f"it stands on {FULL}, which is corrupt")
    assert (found[SECOND], found[THIRD], found[LATER]) == (on_it, on_it, GOOD)
    # What is wrong with a save itself says more than that
    flip(Path(output.path, f"{THIRD}.data-00000-of-00002"), 0)
    found = told(rows(output, verify=True))
    assert found[SECOND] == on_it
    assert "fails its checksum" in found[THIRD][1]


def test_checkpoints_that_are_only_listed_are_not_read(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "QUICK_CHECKS", 3)
    Path(output.path, f"{FULL}.manifest.json").write_bytes(b"{")
    found = rows(output)[FULL]
    assert (found.verified, found.state, found.why) == ("listed", "good", "")
    assert (found.manifest, found.parent, found.position) == (None, None, None)


def test_store_that_does_not_answer_is_not_taken_for_bad_checkpoints(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Checkpoint, *, deep: bool = False) -> None:
        raise StorageUnavailable("503")

    monkeypatch.setattr(Checkpoint, "check", away)
    with pytest.raises(StorageUnavailable):
        checkpoints_report(output)


def test_lineage_is_read_once(output: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_checkpoints, "read_lineage", lambda _: pytest.fail("it's known"))
    assert len(rows(output)) == 4


def run_record(output: Location) -> None:
    record = RunRecord(source="s", fingerprint="f", name="m", started_step=0)
    create_run_record(output, record)


def lineage_alone(output: Location) -> None:
    record_takeover(output, 1, 1, 0)


def files_alone(output: Location) -> None:
    uploaded(output, 5)


@pytest.mark.parametrize(("left", "count"), [(run_record, 0), (lineage_alone, 0), (files_alone, 1)])
def test_run_is_told_by_its_record_its_lineage_or_its_checkpoints(
    tmp_path: Path, left: Callable[[Location], None], count: int
) -> None:
    output = open_location(str(tmp_path / "out"))
    left(output)
    assert len(checkpoints_report(output).checkpoints) == count


def test_directory_without_any_sign_of_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as refused:
        checkpoints_report(open_location(str(tmp_path)))
    assert refused.value.message == f"{tmp_path} holds no run of tfresume"
    assert refused.value.remedy == "Give the --output URL of a run"
    assert refused.value.details == {"missing": True}


def test_evaluator_that_may_be_dead_is_watched_until_that_is_known(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a dead one's hold would be shown as its reading for good."""
    waits: list[object] = []

    def holds(output: Location, *, wait: Callable[[float], None] | None = None) -> Holds:
        waits.append(wait)
        return Holds(output, wait=wait)

    monkeypatch.setattr(reports, "Holds", holds)
    checkpoints_report(output)
    assert waits == [time.sleep]
