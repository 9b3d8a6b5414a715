"""Which files of a listing are one checkpoint, and which of them are tried in which order?"""

from __future__ import annotations

import uuid

import pytest

from orchestrator.store.checkpoints.candidates import Candidate, corrupt, group
from orchestrator.store.checkpoints.choice import Choice, choose, order, series_of
from orchestrator.store.objects.location import Location, open_location


@pytest.fixture
def directory() -> Location:
    return open_location(f"memory://{uuid.uuid4().hex}")


def groups(directory: Location, *names: str) -> dict[str, Candidate]:
    for name in names:
        directory.child(name).write_bytes(b"x")
    return group(directory, directory.list())


def suffixes(found: dict[str, Candidate]) -> dict[str, list[str]]:
    return {prefix: sorted(item.files) for prefix, item in found.items()}


def test_files_are_grouped_by_the_naming_of_tensorflows_savers_and_strangers_left_out(
    directory: Location,
) -> None:
    directory.child("m-9.index", "below").write_bytes(b"a directory of that name")
    found = groups(
        directory,
        *("m.index", "m.data-00000-of-00001", "m-5.index", "m-5.data-00001-of-00002"),
        *("m-5.data-00000-of-00002", "m-5.meta", "m-5.manifest.json"),
        *("old-3", "old-3.meta", "v1-7.meta", "v1-7-00001-of-00002", "v1-7-00000-of-00002"),
        *("m-5", "checkpoint", "notes", "notes-00000-of-00001", "checkpoint.meta"),
    )
    assert suffixes(found) == {
        "checkpoint": [".meta"],
        "m": [".data-00000-of-00001", ".index"],
        "m-5": [
            ".data-00000-of-00002",
            ".data-00001-of-00002",
            ".index",
            ".manifest.json",
            ".meta",
        ],
        "old-3": ["", ".meta"],
        "v1-7": ["-00000-of-00002", "-00001-of-00002", ".meta"],
    }
    assert all(item.directory == directory for item in found.values())
    m5, old, v1 = found["m-5"], found["old-3"], found["v1-7"]
    assert (m5.name, m5.step_in_name, m5.location) == ("m", 5, directory.child("m-5"))
    assert found["m"].step_in_name is None
    assert [file.name for file in m5.data_files] == [
        "m-5.data-00000-of-00002",
        "m-5.data-00001-of-00002",
    ]
    assert [file.name for file in v1.v1_files] == ["v1-7-00000-of-00002", "v1-7-00001-of-00002"]
    assert [file.name for file in old.v1_files] == ["old-3"]
    assert (m5.format, old.format, v1.format) == ("V2", "V1", "V1")
    assert m5.meta is not None
    assert found["m"].meta is None
    assert m5.v1_files == []


@pytest.mark.parametrize(
    ("names", "is_checkpoint", "is_changes"),
    [
        (("m-5.meta",), False, False),
        (("m-5.meta", "m-5.manifest.json"), False, False),
        (("m-5.index",), True, False),
        (("m-5.data-00000-of-00001",), True, False),
        (("m-5.changed.index",), False, True),
    ],
)
def test_graph_alone_and_changed_rows_alone_claim_to_be_no_checkpoint(
    directory: Location, names: tuple[str, ...], is_checkpoint: bool, is_changes: bool
) -> None:
    (found,) = groups(directory, *names).values()
    assert (found.is_checkpoint, found.is_changes) == (is_checkpoint, is_changes)
    assert found.format == ("V1" if names[0].endswith(".meta") else "V2")


def test_error_of_a_bad_candidate_names_it_the_file_and_the_step(directory: Location) -> None:
    (found,) = groups(directory, "m-5.index").values()
    error = corrupt(found, "m-5.index is cut", "m-5.index")
    assert error.message == f"checkpoint {directory.shown}/m-5: m-5.index is cut"
    assert error.remedy == "Use another checkpoint, or copy this one again"
    assert error.details == {
        "checkpoint": f"{directory.shown}/m-5",
        "file": "m-5.index",
        "step": 5,
    }


def chosen(
    directory: Location, *prefixes: str, pointed: str | None = None
) -> tuple[list[str], Choice]:
    found = groups(directory, *(f"{prefix}.index" for prefix in prefixes))
    choice = choose(list(found.values()), pointed)
    return [item.prefix for item in choice.ordered], choice


def test_newest_step_of_the_one_model_comes_first_and_nothing_needs_to_be_said(
    directory: Location,
) -> None:
    groups(directory, "m-7.meta", "m-300.changed.index")
    ordered, choice = chosen(directory, "m-5", "m-40", "m-0")
    assert ordered == ["m-40", "m-5", "m-0"]
    assert (choice.ambiguous, choice.notes) == ((), ())
    assert choose([], "m-5") == Choice()
    assert series_of(choice.ordered[0]) == ("m", True)


def test_without_a_pointer_several_models_are_told_by_their_newest(directory: Location) -> None:
    ordered, choice = chosen(directory, "m-5", "m-40", "n-3", "m")
    assert ordered == []
    assert choice.ambiguous == ("m", "m-40", "n-3")
    assert choice.notes == ()
    gone = chosen(directory, pointed="x-1")[1]
    assert gone.ambiguous == ("m", "m-40", "n-3")
    assert gone.notes == ("the directory's checkpoint file names x-1, which isn't here",)


def test_two_models_are_enough_not_to_know_which_is_meant(directory: Location) -> None:
    ordered, choice = chosen(directory, "m-5", "n-3")
    assert (ordered, choice.ambiguous) == ([], ("m-5", "n-3"))


def test_pointer_says_which_model_is_meant_and_the_newest_of_it_is_tried_first(
    directory: Location,
) -> None:
    ordered, choice = chosen(directory, "m-5", "m-40", "n-3", "m", pointed="m-5")
    assert ordered == ["m-40", "m-5"]
    assert choice.notes == (
        "the directory holds other models too (m, n-3); its checkpoint file names this one. Give a prefix to take another",
        "the directory's checkpoint file names m-5; m-40 is newer and is tried first",
    )
    assert chosen(directory, pointed="m")[0] == ["m"]
    assert len(chosen(directory, pointed="m")[1].notes) == 1
    many = chosen(directory, *(f"x{number}-1" for number in range(5)), pointed="n-3")[1]
    assert many.notes == (
        "the directory holds other models too (m, m-40, x0-1, x1-1, x2-1 and 2 more); "
        "its checkpoint file names this one. Give a prefix to take another",
    )


def test_pointer_to_what_is_not_there_is_told_where_only_one_model_is(directory: Location) -> None:
    ordered, choice = chosen(directory, "m-5", "m-40", pointed="m-7")
    assert ordered == ["m-40", "m-5"]
    assert choice.notes == ("the directory's checkpoint file names m-7, which isn't here",)


def test_five_other_models_are_all_named(directory: Location) -> None:
    _, choice = chosen(directory, "m-5", *(f"x{number}-1" for number in range(5)), pointed="m-5")
    assert "(x0-1, x1-1, x2-1, x3-1, x4-1);" in choice.notes[0]
    _, choice = chosen(directory, "x5-1", pointed="m-5")
    assert "(x0-1, x1-1, x2-1, x3-1, x4-1 and 1 more);" in choice.notes[0]


def test_names_without_a_step_are_ordered_too(directory: Location) -> None:
    found = groups(directory, "a.index", "b.index", "m-0.index")
    assert [item.prefix for item in order(found.values())] == ["m-0", "b", "a"]
