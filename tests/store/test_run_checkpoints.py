"""Which checkpoints has a run, in which order, and which of them is the newest good one?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.errors import CorruptCheckpoint, StorageUnavailable
from orchestrator.store.checkpoints import run_checkpoints, verification
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.checkpoints.run_checkpoints import (
    Checkpoint,
    age,
    list_checkpoints,
    list_saves,
    scan,
    scan_all,
)
from orchestrator.store.objects.layout import GenerationId
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lineage import read_lineage, record_takeover
from orchestrator.vocabulary import Attempt, Generation
from tests.store.damage import flip
from tests.store.runs import saved, uploaded


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A run whose second driver went back to step 3: 5 is fenced, 2 was never committed."""
    found = open_location(str(tmp_path_factory.mktemp("made") / "out"))
    record_takeover(found, 1, 1, 0)
    for step in (1, 3, 5):
        saved(found, step)
    uploaded(found, 2)
    record_takeover(found, 2, 1, 3, parent=(1, 1))
    saved(found, 4, attempt=2)
    found.child("a0001-g0001", "stranger.index").write_bytes(b"no step")
    found.child("a0001-g0001", "model.ckpt-3.changed.index").write_bytes(b"changed rows")
    found.child("a0001-g0001", "model.ckpt-3.changed.manifest.json").write_bytes(b"{}")
    found.child("a0001-g0001", "model.ckpt-6.changed.index").write_bytes(b"changed rows")
    found.child("b0001-g0001", "model.ckpt-9.index").write_bytes(b"somebody else's")
    return found


@pytest.fixture
def output(made: Location, tmp_path: Path) -> Location:
    """A copy of it, for one test."""
    shutil.copytree(made.path, tmp_path / "out")
    return open_location(str(tmp_path / "out"))


def test_scan_finds_all_of_a_run_newest_first_and_says_what_does_not_count(
    output: Location,
) -> None:
    full, changes = scan_all(output)
    assert scan(output) == full
    assert scan_all(output, read_lineage(output)) == (full, changes)
    assert [item.label for item in full] == [
        "a0002-g0001/model.ckpt-4",
        "a0001-g0001/model.ckpt-5",
        "a0001-g0001/model.ckpt-3",
        "a0001-g0001/model.ckpt-2",
        "a0001-g0001/model.ckpt-1",
    ]
    assert [item.step for item in full if item.fenced] == [5]
    assert "after a0002-g0001 had taken over at step 3" in full[1].fenced
    assert [item.step for item in full if not item.committed] == [2]
    assert [item.step for item in changes] == [6, 3]
    assert all(item.is_changes for item in changes)
    assert [item.step for item in list_checkpoints(output)] == [4, 3, 1]
    assert [(item.step, item.is_changes) for item in list_saves(output)] == [
        (4, False),
        (3, False),
        (3, True),
        (1, False),
    ]


def test_checkpoint_of_a_listing_tells_its_place_its_size_and_its_manifest(
    output: Location,
) -> None:
    newest, _, _, lost, *_ = scan(output)
    assert (newest.name, newest.prefix) == (
        "model.ckpt",
        output.child("a0002-g0001", "model.ckpt-4"),
    )
    files = {path.name: path.stat().st_size for path in Path(output.path, "a0002-g0001").iterdir()}
    del files["model.ckpt-4.manifest.json"]
    assert newest.size_bytes == sum(files.values())
    assert newest.manifest_file is not None
    assert newest.manifest().step == 4
    with pytest.raises(CorruptCheckpoint) as refused:
        lost.manifest()
    place = output.child("a0001-g0001", "model.ckpt-2").shown
    assert refused.value.message == f"checkpoint {place} was never committed: it has no manifest"
    assert refused.value.remedy == "Use another"


def test_manifest_that_was_copied_into_another_generation_is_refused(output: Location) -> None:
    copied = output.child("a0002-g0001", "model.ckpt-3.manifest.json")
    copied.write_bytes(output.child("a0001-g0001", "model.ckpt-3.manifest.json").read_bytes())
    (item,) = (item for item in scan(output) if item.label == "a0002-g0001/model.ckpt-3")
    with pytest.raises(CorruptCheckpoint) as refused:
        item.manifest()
    assert refused.value.message == f"{copied.shown} belongs to a0001-g0001: it was copied"
    assert refused.value.remedy == "Use the checkpoint where it was saved"
    copied.write_bytes(b"{")
    with pytest.raises(CorruptCheckpoint, match=r"a0002-g0001/model\.ckpt-3\.manifest\.json isn't"):
        item.manifest()


def test_lineage_that_is_known_is_not_read_again(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage = read_lineage(output)
    monkeypatch.setattr(run_checkpoints, "read_lineage", lambda _: pytest.fail("it's known"))
    assert [item.step for item in scan(output, lineage) if not item.fenced] == [4, 3, 2, 1]


def test_of_checkpoints_of_one_step_the_later_position_is_newer(output: Location) -> None:
    for name in ("model.ckpt.at200-4", "model.ckpt.at30-4"):
        output.child("a0002-g0001", f"{name}.index").write_bytes(b"the counter stood still")
    items = [item for item in scan(output) if item.generation_id.attempt == 2]
    assert [item.candidate.prefix for item in items] == [
        "model.ckpt.at200-4",
        "model.ckpt.at30-4",
        "model.ckpt-4",
    ]
    assert age(items[0]) == (GenerationId(Attempt(2), Generation(1)), 4, 200)


def test_newest_good_checkpoint_tells_why_newer_ones_were_passed_over(output: Location) -> None:
    found = newest_good(output, exclude={"a0002-g0001/model.ckpt-4": "a worker couldn't read it"})
    assert found.checkpoint is not None
    assert found.checkpoint.step == 3
    assert found.checked is not None
    assert [(item.checkpoint, item.step) for item in found.refused] == [
        ("a0002-g0001/model.ckpt-4", 4),
        ("a0001-g0001/model.ckpt-5", 5),
    ]
    assert found.refused[0].reason == "a worker couldn't read it"
    assert "had taken over at step 3" in found.refused[1].reason
    none = newest_good(
        output, exclude={item.label: "bad" for item in scan(output) if item.step != 2}
    )
    assert (none.checkpoint, none.checked) == (None, None)
    assert none.refused[3].reason == "it was never committed: the save didn't finish"
    assert len(none.refused) == 5


def test_newest_good_reads_every_byte_where_it_is_asked_to(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(Path(output.path) / "a0002-g0001" / "model.ckpt-4.data-00000-of-00001", 0)
    deep = newest_good(output, deep=True)
    assert deep.checkpoint is not None
    assert deep.checkpoint.step == 3
    assert "model.ckpt-4" in deep.refused[0].reason
    asked: list[bool] = []

    def check(candidate: object, manifest: object, *, deep: bool) -> object:
        asked.append(deep)
        return "checked"

    monkeypatch.setattr(verification, "check", check)
    checked: object = newest_good(output).checked
    assert checked == "checked"
    scan(output)[0].check()
    assert asked == [False, False]


def test_store_that_does_not_answer_is_not_taken_for_a_bad_checkpoint(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Checkpoint, *, deep: bool = False) -> None:
        raise StorageUnavailable("503")

    monkeypatch.setattr(Checkpoint, "check", away)
    with pytest.raises(StorageUnavailable):
        newest_good(output)
