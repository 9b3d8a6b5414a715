"""Which checkpoint of a directory that tfresume didn't write is taken, and what is said of the others?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, OrchestratorError, SourceError
from orchestrator.store.checkpoints import foreign, sample
from orchestrator.store.checkpoints.candidates import Refusal, group
from orchestrator.store.checkpoints.foreign import (
    ForeignSource,
    newest_foreign,
    none_good,
    only_this,
)
from orchestrator.store.objects.location import open_location
from tests.fakes.bundles import meta_bytes, write_bundle, write_checkpoint
from tests.store.damage import flip

DATA = "data-00000-of-00001"


def state(step: int) -> dict[str, Any]:
    """A variable and the step."""
    return {"w": np.full(3, step, np.float32), "global_step": np.int64(step)}


def save(place: Path, *prefixes: str, meta: bool = True) -> None:
    """Checkpoints whose data is of the step that their name says, or of 5."""
    for prefix in prefixes:
        _, _, step = prefix.rpartition("-")
        write_checkpoint(place, prefix, state(int(step) if step.isdigit() else 5), meta=meta)


def graph(place: Path, *prefixes: str) -> None:
    """Graphs alone."""
    for prefix in prefixes:
        (place / f"{prefix}.meta").write_bytes(meta_bytes(state(0)))


def only(place: Path, prefix: str, *, need: bool = True, deep: bool = False) -> ForeignSource:
    """What is taken where this one is named."""
    where = open_location(str(place))
    found = group(where, where.list())
    return only_this(found[prefix], found, where.child("asked"), need_checkpoint=need, deep=deep)


def newest(
    place: Path,
    pointed: str | None = None,
    *,
    exclude: Mapping[str, str] | None = None,
    need: bool = True,
    deep: bool = False,
) -> ForeignSource:
    """What is taken of the directory."""
    where = open_location(str(place))
    found = group(where, where.list())
    return newest_foreign(
        where, found, pointed, exclude=exclude or {}, need_checkpoint=need, deep=deep
    )


def step(found: ForeignSource) -> int | None:
    """Of the checkpoint that was taken."""
    assert found.checked is not None
    return found.checked.step


def refused(error: pytest.ExceptionInfo[OrchestratorError]) -> tuple[str, str]:
    """What it says, and what to do."""
    return error.value.message, error.value.remedy or ""


@pytest.fixture
def unsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a quick check, which reads the step alone then."""
    monkeypatch.setattr(sample, "WHOLE_SHARD_BYTES", 0)
    monkeypatch.setattr(sample, "SAMPLE_TENSOR_BYTES", 8)


def test_named_checkpoint_is_checked_as_deeply_as_asked(tmp_path: Path, unsampled: None) -> None:
    save(tmp_path, "m-5")
    flip(tmp_path / f"m-5.{DATA}", 10)
    found = only(tmp_path, "m-5")
    assert (step(found), found.meta.name) == (5, "m-5.meta")
    assert found.meta_data == (tmp_path / "m-5.meta").read_bytes()
    assert (found.refused, found.notes) == ((), ())
    with pytest.raises(CorruptCheckpoint, match="1 damaged tensors"):
        only(tmp_path, "m-5", deep=True)


def test_graph_without_its_checkpoint_takes_the_newest_good_one_of_its_name(
    tmp_path: Path, unsampled: None
) -> None:
    graph(tmp_path, "m-0")
    save(tmp_path, "m-100", "m-200", "n-300", meta=False)
    write_bundle(tmp_path, "m-400", state(150))
    found = only(tmp_path, "m-0")
    assert (step(found), found.meta.name) == (200, "m-0.meta")
    assert found.notes == (
        "m-0.meta has no checkpoint of its own; the newest good one of m is taken",
    )
    assert [one.checkpoint for one in found.refused] == ["m-400"]
    flip(tmp_path / f"m-200.{DATA}", 10)
    assert step(only(tmp_path, "m-0", deep=True)) == 100
    flip(tmp_path / f"m-100.{DATA}", 10)
    with pytest.raises(CorruptCheckpoint, match=rf"none of the 3 newest checkpoints in {tmp_path}"):
        only(tmp_path, "m-0", deep=True)


def test_what_has_neither_graph_nor_variables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m-5.manifest.json").write_bytes(b"{}")
    with pytest.raises(SourceError) as raised:
        only(tmp_path, "m-5")
    assert refused(raised) == (
        f"{tmp_path}/asked has neither a .meta nor variables",
        "Name another checkpoint",
    )


def test_graph_alone_is_looked_at_where_no_checkpoint_is_needed(tmp_path: Path) -> None:
    graph(tmp_path, "m-5")
    with pytest.raises(SourceError) as raised:
        only(tmp_path, "m-5")
    assert refused(raised) == (
        f"{tmp_path}/m-5.meta has no checkpoint beside it: a graph without variables has nothing to resume",
        "Copy m-5.index and m-5.data-* into the same directory",
    )
    for found in (only(tmp_path, "m-5", need=False), newest(tmp_path, need=False)):
        assert (found.meta.name, found.checked) == ("m-5.meta", None)
        assert found.meta_data == meta_bytes(state(0))


@pytest.mark.parametrize(
    ("models", "more"), [(2, ""), (10, ""), (11, " and 1 more"), (12, " and 2 more")]
)
def test_several_models_without_a_pointer_are_told(tmp_path: Path, models: int, more: str) -> None:
    prefixes = [f"m{number:02d}-1" for number in range(models)]
    for prefix in prefixes:
        (tmp_path / f"{prefix}.index").write_bytes(b"x")
    with pytest.raises(SourceError) as raised:
        newest(tmp_path)
    assert refused(raised) == (
        f"{tmp_path} holds several models and no telling which is meant: {', '.join(prefixes[:10])}{more}",
        "Give the prefix of one of them",
    )
    assert raised.value.details == {"prefixes": prefixes}
    with pytest.raises(SourceError) as raised:
        newest(tmp_path, "gone-5")
    assert (
        "is meant (the directory's checkpoint file names gone-5, which isn't here): m00-1, m01-1"
        in raised.value.message
    )


def test_graphs_without_a_checkpoint_are_named(tmp_path: Path) -> None:
    graph(tmp_path, *(f"m-{number}" for number in range(6, 0, -1)))
    for need in (True, False):  # of several nobody knows which to look at
        with pytest.raises(SourceError) as raised:
            newest(tmp_path, need=need)
        assert refused(raised) == (
            f"{tmp_path} has graphs (m-1.meta, m-2.meta, m-3.meta, m-4.meta, m-5.meta) but no checkpoint: "
            "there are no variables to resume",
            "Copy the .index and .data files of a checkpoint into it",
        )


def test_directory_without_anything_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as raised:
        newest(tmp_path, need=False)
    assert refused(raised) == (
        f"{tmp_path} holds no checkpoint",
        "Name the directory that TensorFlow saved into",
    )


def test_checkpoint_that_turned_out_bad_is_not_taken_again(tmp_path: Path) -> None:
    save(tmp_path, "m-5")
    with pytest.raises(CorruptCheckpoint) as raised:
        newest(tmp_path, exclude={"m-5": "it was damaged"})
    assert refused(raised) == ("it was damaged", "Name another checkpoint, or copy it again")
    save(tmp_path, "m-4")
    found = newest(tmp_path, exclude={"m-5": "it was damaged"})
    assert found.refused == (Refusal("m-5", 5, "it was damaged"),)
    assert step(found) == 4


def test_newest_of_two_that_lacks_a_variable_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, "m-4")
    graph(tmp_path, "m-5")
    write_bundle(tmp_path, "m-5", {"global_step": np.int64(5)})
    found = newest(tmp_path)
    assert [(one.checkpoint, one.step) for one in found.refused] == [("m-5", 5)]
    assert "lacks 1 of the 2 variables" in found.refused[0].reason
    assert only(tmp_path, "m-5").meta.name == "m-5.meta"
    # nor is one passed over for a graph that isn't its own
    graph(tmp_path, "m-0")
    assert step(only(tmp_path, "m-0")) == 5


def test_walk_back_ends_after_so_many_bad_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "MAX_REFUSALS", 2)
    save(tmp_path, "m-1")
    for number in (2, 3):
        (tmp_path / f"m-{number}.index").write_bytes(b"")
    with pytest.raises(CorruptCheckpoint) as raised:
        newest(tmp_path)
    assert [one["checkpoint"] for one in raised.value.details["refused"]] == ["m-3", "m-2"]
    (tmp_path / "m-3.index").unlink()
    assert step(newest(tmp_path)) == 1


def test_save_of_a_run_that_was_never_committed_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "a0001-g0001"
    save(place, "m-5")
    with pytest.raises(CorruptCheckpoint) as raised:
        only(place, "m-5")
    assert refused(raised) == (
        f"checkpoint {place}/m-5 was never committed: the save didn't finish",
        "Use a committed one",
    )
    (place / "m-5.manifest.json").write_bytes(b"{")
    with pytest.raises(CorruptCheckpoint, match=rf"{place}/m-5\.manifest\.json"):
        only(place, "m-5")


def test_graph_of_another_model_is_refused_by_its_file(tmp_path: Path) -> None:
    save(tmp_path, "m-5")
    (tmp_path / "m-5.meta").write_bytes(meta_bytes({"w": np.zeros(4, np.float32)}))
    with pytest.raises(CorruptCheckpoint) as raised:
        only(tmp_path, "m-5")
    assert refused(raised) == (
        f"checkpoint {tmp_path}/m-5 doesn't fit the graph: 'w' has shape [3] in it, [4] in the graph",
        "Give the .meta that was saved with it",
    )
    assert raised.value.details == {"checkpoint": f"{tmp_path}/m-5", "file": "m-5.meta"}
    (tmp_path / "m-5.meta").write_bytes(b"\x0a\x05")
    with pytest.raises(OrchestratorError, match=rf"{tmp_path}/m-5\.meta"):
        only(tmp_path, "m-5")


def test_objects_of_tensorflow_2_are_told_as_such(tmp_path: Path) -> None:
    write_bundle(tmp_path, "m-5", {**state(5), "_CHECKPOINTABLE_OBJECT_GRAPH": [b"graph"]})
    with pytest.raises(SourceError) as raised:
        only(tmp_path, "m-5")
    assert refused(raised) == (
        f"checkpoint {tmp_path}/m-5 is one of TensorFlow 2's objects (tf.train.Checkpoint, Keras): it has no graph",
        "Build its model in a TensorFlow 1 graph, restore it there, and save with "
        "tf.compat.v1.train.Saver, which writes a .meta",
    )
    assert raised.value.details == {"file": "m-5.meta"}
    graph(tmp_path, "m-4")  # with a graph beside it, it may be one of a Saver all the same
    assert only(tmp_path, "m-5").meta.name == "m-4.meta"


@pytest.mark.parametrize("others", [(), ("n-1", "o-1"), ("n-1", "o-1", "p-1")])
def test_graph_that_is_missing_and_that_no_neighbour_gives_is_asked_for(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    save(tmp_path, "m-5", meta=False)
    graph(tmp_path, *others)
    with pytest.raises(SourceError) as raised:
        only(tmp_path, "m-5")
    assert refused(raised) == (
        f"m-5.meta is missing, the graph of checkpoint {tmp_path}/m-5",
        "Copy the .meta from where it was trained; TensorFlow writes it last, so a crash may have lost it",
    )
    assert raised.value.details == {"file": "m-5.meta"}


@pytest.mark.parametrize(
    ("prefix", "graphs", "taken"),
    [
        ("m-5", ["m-1", "m-7", "m-9"], "m-7"),
        ("m-5", ["m-3", "m-7"], "m-3"),
        ("m-5", ["m-1", "n-4"], "m-1"),
        ("m-5", ["n-4"], "n-4"),
        ("m", ["m-0", "m-1"], "m-0"),
        ("m-4", ["m", "m-7"], "m-7"),
    ],
)
def test_graph_that_is_missing_is_that_of_the_nearest_neighbour(
    tmp_path: Path, prefix: str, graphs: list[str], taken: str
) -> None:
    save(tmp_path, prefix, meta=False)
    graph(tmp_path, *graphs)
    found = only(tmp_path, prefix)
    assert found.meta.name == f"{taken}.meta"
    assert found.notes == (f"{prefix} has no .meta of its own; {taken}.meta fits it and is used",)


def test_step_that_differs_from_the_name_is_a_sign_of_mixed_up_files_where_a_neighbour_agrees(
    tmp_path: Path,
) -> None:
    write_checkpoint(tmp_path, "m-9", state(7))
    save(tmp_path, "n-8")  # of another model
    note = "the name says step 9, the data says 7; the data counts"
    assert only(tmp_path, "m-9").notes == (note,)
    for step in (4, 5, 6):  # so many neighbours are asked, the newest first
        write_checkpoint(tmp_path, f"m-{step}", state(100 + step))
    save(tmp_path, "m-3")
    assert only(tmp_path, "m-9").notes == (note,)
    (tmp_path / "m-6.index").write_bytes(b"")
    assert only(tmp_path, "m-9").notes == (note,)
    save(tmp_path, "m-4")
    with pytest.raises(CorruptCheckpoint) as raised:
        only(tmp_path, "m-9")
    assert refused(raised) == (
        f"checkpoint {tmp_path}/m-9: its data is of step 7, its name says 9, while m-4 agrees with its name: "
        "files of another save were put under this name",
        "Rename it to what it is, or copy it again",
    )
    assert raised.value.details == {"checkpoint": f"{tmp_path}/m-9", "step": 7, "file": "m-9"}


def test_name_without_a_step_and_data_without_one_say_nothing(tmp_path: Path) -> None:
    save(tmp_path, "m")
    assert only(tmp_path, "m").notes == ()
    tensors = {"w": np.zeros(3, np.float32)}
    write_checkpoint(tmp_path, "m-9", tensors)
    assert only(tmp_path, "m-9").notes == ()


@pytest.mark.parametrize(
    ("count", "more"), [(4, ""), (5, ""), (6, "; and 1 more"), (7, "; and 2 more")]
)
def test_bad_checkpoints_are_listed_with_their_reasons(count: int, more: str) -> None:
    refusals = tuple(Refusal(f"m-{number}", number, f"is {number}") for number in range(count))
    error = none_good(open_location("memory://bad"), refusals, "is empty")
    listed = "; ".join(f"m-{number}: is {number}" for number in range(min(count, 5)))
    assert isinstance(error, CorruptCheckpoint)
    assert error.message == (
        f"none of the {count} newest checkpoints in memory://bad is good: {listed}{more}"
    )
    assert error.remedy == "Copy one of them again from where it was trained"
    assert error.details == {
        "refused": [
            {"checkpoint": f"m-{number}", "step": number, "reason": f"is {number}"}
            for number in range(count)
        ]
    }


def test_directory_of_which_nothing_was_refused_says_what_it_is() -> None:
    error = none_good(open_location("memory://empty"), (), "has saved nothing yet")
    assert isinstance(error, SourceError)
    assert (error.message, error.remedy) == (
        "memory://empty has saved nothing yet",
        "Name another directory, or a checkpoint's prefix",
    )
