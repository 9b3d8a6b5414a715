"""What is said of a save of changed rows that can't be used, and which saves go when they're outlived?"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import CorruptCheckpoint, StorageUnavailable
from orchestrator.store.bundle.folded import Folded
from orchestrator.store.checkpoints.chains import (
    chain_of,
    needed_links,
    newest_chain,
    no_source,
    outlived,
    why_no_link,
)
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, scan_all
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import ChainLink, Manifest
from orchestrator.store.run.lineage import record_takeover
from tests.store.chains import Run, full_and_two_changes

FULL, SECOND, THIRD = (f"a0001-g0001/{name}" for name in ("m-1", "m-2.changed", "m-3.changed"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A full save and two of changed rows over it."""
    return full_and_two_changes(tmp_path_factory.mktemp("made"), Run(40, 2))


@pytest.fixture
def output(made: Location, tmp_path: Path) -> Location:
    shutil.copytree(made.path, tmp_path / "out")
    return open_location(str(tmp_path / "out"))


def saves(output: Location) -> dict[str, Checkpoint]:
    return {item.label: item for items in scan_all(output) for item in items}


def manifest_of(output: Location, label: str) -> Location:
    return output.child(*f"{label}.manifest.json".split("/"))


def changed(output: Location, label: str, **fields: Any) -> None:
    """Writes another manifest in the place of the one that a save has."""
    manifest = saves(output)[label].manifest()
    manifest_of(output, label).write_bytes(manifest.model_copy(update=fields).to_bytes())


def refused(output: Location, **how: Any) -> dict[str, str]:
    return {item.checkpoint: item.reason for item in newest_chain(output, **how)[1]}


def test_newest_state_is_the_whole_chain_and_tells_which_saves_were_passed_over(
    output: Location,
) -> None:
    chain, passed = newest_chain(output)
    assert chain is not None
    assert [link.label for link in chain.links] == [FULL, SECOND, THIRD]
    assert (chain.newest.label, passed) == (THIRD, ())
    older, passed = newest_chain(output, exclude={THIRD: "a worker couldn't read it"})
    assert older is not None
    assert older.newest.label == SECOND
    assert [(item.checkpoint, item.step, item.reason) for item in passed] == [
        (THIRD, 3, "a worker couldn't read it")
    ]
    none, passed = newest_chain(output, exclude={FULL: "a worker couldn't read it"})
    assert none is None
    place = output.child("a0001-g0001")
    on_it = f"it stands on {FULL}: a worker couldn't read it"
    assert [item.reason for item in passed] == [
        f"{place.shown}/m-3.changed: {on_it}",
        f"{place.shown}/m-2.changed: {on_it}",
        "a worker couldn't read it",
    ]


def test_save_that_was_never_committed_or_does_not_count_is_passed_over(output: Location) -> None:
    manifest_of(output, THIRD).delete()
    assert refused(output) == {THIRD: "it was never committed: the save didn't finish"}
    record_takeover(output, 2, 1, 1, parent=(1, 1))
    fenced = "saved at step {} by a0001-g0001, after a0002-g0001 had taken over at step 1"
    assert refused(output) == {THIRD: fenced.format(3), SECOND: fenced.format(2)}


def test_save_whose_ground_is_gone_or_another_says_which_it_is(output: Location) -> None:
    third = saves(output)[THIRD]
    with pytest.raises(CorruptCheckpoint) as told:
        chain_of(third, {THIRD: third})
    assert told.value.message == f"{third.prefix.shown}: it stands on {FULL}, which isn't there"
    assert told.value.remedy == ("Use an older checkpoint; `tfresume checkpoints RUN` lists them")
    assert told.value.details == {"checkpoint": third.prefix.shown}
    changed(output, SECOND, save_id="another")
    assert refused(output) == {
        THIRD: f"{third.prefix.shown}: {SECOND} is another save than the one that it stands on"
    }


@pytest.mark.parametrize("links", [(1, 2), (0, 0), (1,)])
def test_save_stands_on_one_full_checkpoint_and_changes_over_it(
    output: Location, links: tuple[int, ...]
) -> None:
    known = saves(output)
    ground = [known[label] for label in (FULL, SECOND, THIRD)]
    run = tuple(
        ChainLink(label=ground[link].label, save_id=ground[link].manifest().save_id)
        for link in links
    )
    changed(output, THIRD, chain=run)
    with pytest.raises(CorruptCheckpoint, match=r": it doesn't stand on one full checkpoint\."):
        chain_of(saves(output)[THIRD], saves(output))


def test_reason_why_nothing_may_stand_on_a_save(output: Location) -> None:
    item = saves(output)[FULL]
    assert why_no_link(None) == "isn't there"
    manifest_of(output, SECOND).delete()
    assert why_no_link(saves(output)[SECOND]) == "isn't there"
    fenced = Checkpoint(item.output, item.generation_id, item.step, item.candidate, "it's old")
    assert why_no_link(fenced) == "doesn't count: it's old"
    with pytest.raises(CorruptCheckpoint, match="which doesn't count: it's old"):
        chain_of(saves(output)[THIRD], {**saves(output), FULL: fenced})


@pytest.mark.parametrize("deep", [True, False])
def test_every_row_is_looked_at_only_where_that_is_asked_for(
    output: Location, monkeypatch: pytest.MonkeyPatch, deep: bool
) -> None:
    rows: list[Folded] = []
    checked: list[bool] = []
    check = Checkpoint.check

    def looked(self: Checkpoint, *, deep: bool = False) -> Any:
        checked.append(deep)
        return check(self, deep=deep)

    monkeypatch.setattr(Checkpoint, "check", looked)
    monkeypatch.setattr(Folded, "check_rows", lambda self: rows.append(self))
    newest_chain(output, deep=deep)
    assert checked == [deep] * 3
    assert len(rows) == (1 if deep else 0)
    checked.clear()
    if not deep:
        chain_of(saves(output)[FULL], {})
        newest_chain(output)
        assert checked == [False] * 4


def test_store_that_does_not_answer_is_not_taken_for_a_bad_save(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Checkpoint) -> Manifest:
        raise StorageUnavailable("503")

    monkeypatch.setattr(Checkpoint, "manifest", away)
    with pytest.raises(StorageUnavailable):
        newest_chain(output)


def test_saves_that_count_need_what_they_stand_on_and_others_need_nothing(
    output: Location,
) -> None:
    changes = scan_all(output)[1]
    assert needed_links(changes) == {FULL, SECOND}
    assert needed_links(changes[1:]) == {FULL}
    manifest_of(output, THIRD).write_bytes(b"{")
    assert needed_links(scan_all(output)[1]) == {FULL}, "damaged, so that it can't be used"
    manifest_of(output, THIRD).delete()
    assert needed_links(scan_all(output)[1]) == {FULL}
    record_takeover(output, 2, 1, 1, parent=(1, 1))
    assert needed_links(scan_all(output)[1]) == frozenset()


def labels(items: tuple[list[Checkpoint], list[Checkpoint]]) -> tuple[list[str], list[str]]:
    gone, stay = items
    return [item.label for item in gone], [item.label for item in stay]


def test_changes_go_once_a_newer_full_save_is_good(output: Location) -> None:
    full, changes = scan_all(output)
    assert labels(outlived(changes, None)) == ([], [THIRD, SECOND])
    assert labels(outlived(changes, full[0])) == ([], [THIRD, SECOND])
    at_two, at_three = (
        Checkpoint(item.output, item.generation_id, item.step, full[0].candidate)
        for item in reversed(changes)
    )
    assert labels(outlived(changes, at_two)) == ([], [THIRD, SECOND]), "the third stands on it"
    assert labels(outlived(changes, at_three)) == ([THIRD, SECOND], [])
    manifest_of(output, THIRD).delete()
    rest = scan_all(output)[1]
    assert labels(outlived(rest, at_two)) == ([SECOND], []), "what isn't committed is not its own"
    record_takeover(output, 2, 1, 1, parent=(1, 1))
    assert labels(outlived(scan_all(output)[1], at_three)) == ([], [])


def test_save_of_changed_rows_that_is_named_as_a_source_says_how_to_fold_it() -> None:
    place = open_location("memory://b/a0001-g0001/m-2.changed")
    told = no_source(place)
    assert told.message == (
        "memory://b/a0001-g0001/m-2.changed holds the rows that changed since another save, and is no checkpoint by itself"
    )
    assert told.remedy == (
        "Fold it first: `tfresume export memory://b/a0001-g0001/m-2.changed --to checkpoint --all --output DIRECTORY`, "
        "and put the graph's .meta file beside what it writes"
    )
