"""Does ``prune`` take what nobody can use, and leave what a driver is about to?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.checkpoints import retention
from orchestrator.store.checkpoints.retention import deletion_note, prune
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, list_checkpoints
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import GenerationId
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.evaluations import Evaluations
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.store.runs import saved, uploaded

TOKEN = "0123456789abcdef" * 2
DATA = "model.ckpt-300.data-00000-of-00001"


@pytest.fixture
def output(tmp_path: Path) -> Location:
    """A run of one generation with one checkpoint."""
    found = open_location(str(tmp_path / "out"))
    record_takeover(found, 1, 1, 0)
    saved(found, 100)
    return found


@pytest.fixture
def aborted(monkeypatch: pytest.MonkeyPatch) -> list[GenerationId | None]:
    """Before which generation uploads were aborted, of which only S3 has some."""
    told: list[GenerationId | None] = []

    def noted(_output: Location, before: GenerationId | None = None) -> int:
        told.append(before)
        return 0

    monkeypatch.setattr(retention, "abort_abandoned", noted)
    return told


def put(output: Location, directory: str, name: str, content: bytes = b"12345") -> str:
    place = output.child(directory, name)
    place.write_bytes(content)
    return place.shown


@pytest.mark.parametrize(
    "name",
    [
        f"{DATA}.part-{TOKEN}-00000",
        f"{DATA}.part-{TOKEN}-64-00001",
        f"{DATA}.part-{TOKEN}-123456",
        f"model.part-1-300.meta.part-{TOKEN}-00000",
    ],
)
def test_prune_takes_the_parts_of_a_file_that_was_never_put_together(
    output: Location, name: str
) -> None:
    size = sum(record.size_bytes for record in uploaded(output, 200).files)
    part = put(output, "a0001-g0001", name)
    done = prune(output, held=False)
    assert len(done.leftovers) == 4
    assert part in done.leftovers
    assert not output.child("a0001-g0001", name).exists()
    assert done.freed_bytes == size + 5


@pytest.mark.parametrize(
    "name",
    [
        f"notes.part-{TOKEN}-00000",
        f".part-{TOKEN}-00000",
        f"{DATA}.part-{TOKEN}-0000",
        f"{DATA}.part-{TOKEN}",
        f"{DATA}.part-{TOKEN[1:]}-00000",
        f"{DATA}.part-{TOKEN}-00000.txt",
        f"{DATA}.part-a",
        f"{DATA}-{TOKEN}-00000",
    ],
)
def test_prune_leaves_files_that_only_look_like_parts(output: Location, name: str) -> None:
    put(output, "a0001-g0001", name)
    assert prune(output, held=False).leftovers == ()
    assert output.child("a0001-g0001", name).exists()


def test_prune_beside_a_driver_leaves_the_parts_of_its_save_and_takes_older_ones(
    output: Location, aborted: list[GenerationId | None]
) -> None:
    """Until the first file of a save is put together, parts are all that tells of its generation. One
    that was under way when the group was formed anew is still written while the next has begun.
    """
    record_takeover(output, 1, 3, 100, parent=(1, 1))
    part = f"{DATA}.part-{TOKEN}-00000"
    old, before, own = (put(output, f"a0001-g000{number}", part) for number in (1, 2, 3))
    elsewhere = put(output, "mine", part)
    assert prune(output, held=True).leftovers == (old,)
    assert aborted == [(1, 2)]
    assert set(prune(output, held=False).leftovers) == {before, own}
    assert aborted == [(1, 2), None]
    assert output.child("mine", part).exists(), elsewhere


def test_prune_beside_a_driver_that_has_saved_nothing_yet_leaves_its_uploads(
    tmp_path: Path, aborted: list[GenerationId | None]
) -> None:
    """S3 lists nothing of an upload that isn't complete, so its generation isn't known."""
    output = open_location(str(tmp_path / "new"))
    record_takeover(output, 1, 1, 0)
    nothing = retention.Pruned((), (), 0)
    assert prune(output, held=True) == nothing
    assert aborted == []
    assert prune(output, held=False) == nothing
    assert aborted == [None]


def test_prune_that_only_shows_what_it_would_do_does_nothing(
    output: Location, aborted: list[GenerationId | None]
) -> None:
    saved(output, 200)
    saved(output, 300)
    (going,) = (item for item in list_checkpoints(output) if item.step == 200)
    create_once(deletion_note(going), going.manifest().to_bytes())
    record_takeover(output, 2, 1, 250, parent=(1, 1))
    uploaded(output, 400, attempt=2)
    put(output, "a0001-g0001", f"{DATA}.part-{TOKEN}-00000")
    before = everything(output)
    shown = prune(output, held=False, dry_run=True)
    assert everything(output) == before
    assert aborted == []
    assert shown.checkpoints == ("a0001-g0001/model.ckpt-300",)
    done = prune(output, held=False)
    assert done == shown
    assert [item.step for item in list_checkpoints(output)] == [100], "a deletion was finished"


def everything(output: Location) -> set[Path]:
    return {path for path in Path(output.path).rglob("*") if path.is_file()}


def test_prune_gives_way_to_a_reader_of_what_a_crash_left_half_deleted(output: Location) -> None:
    saved(output, 200)
    items: dict[int, Checkpoint] = {item.step: item for item in list_checkpoints(output)}
    for item in items.values():
        create_once(deletion_note(item), item.manifest().to_bytes())
    own = Evaluations(output, "eval")
    acquire(own.place)
    own.hold(items[100].label)
    prune(output, held=False)
    assert [item.step for item in list_checkpoints(output)] == [100]
