"""What does TensorFlow's ``checkpoint`` file name, whoever wrote it, and is it written as TensorFlow
does it?
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.checkpoints import pointer
from orchestrator.store.checkpoints.candidates import group
from orchestrator.store.checkpoints.pointer import (
    followed,
    parse_pointer,
    pointer_text,
    read_pointer,
    write_pointer,
)
from orchestrator.store.objects.location import Location, open_location


@pytest.fixture
def directory(tmp_path: Path) -> Location:
    return open_location(str(tmp_path))


def named(path: str) -> bytes:
    return f'model_checkpoint_path: "{path}"\n'.encode()


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("m-5", "m-5"),
        ("a0001-g0001/m-5", "a0001-g0001/m-5"),
        (".//a/./m-5", "a/m-5"),
        ("/data/run/m-5", "m-5"),
        ("/m-5/", "m-5"),
        ("gs://bucket/run/m-5", "m-5"),
        ("a/../m-5", "m-5"),
        (r"C:\\run\\m-5", "m-5"),
        (r"run\\a/m-5", "m-5"),
        ("..", None),
        ("a/..", None),
        ("", None),
        ("/", None),
        (".", None),
        (r"m\000-5", None),
        (r"m\000/a-5", "a-5"),
        (r"\303\274-5", "ü-5"),
        (r"\377-5", "\N{REPLACEMENT CHARACTER}-5"),
        (r"a \"b\"-5", 'a "b"-5'),
        (r"m\q-5", "q-5"),
    ],
)
def test_path_in_a_pointer_is_looked_up_below_its_directory_or_not_at_all(
    written: str, found: str | None
) -> None:
    assert parse_pointer(named(written)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('# ours\n\n  model_checkpoint_path :"m-5"\n', "m-5"),
        ('all_model_checkpoint_paths: "m-4"\nmodel_checkpoint_path: "m-5"\n', "m-5"),
        ('model_checkpoint_path: "m-5" all_model_checkpoint_paths: "m-4"', "m-5"),
        ('all_model_checkpoint_paths: "m-4"\n', None),
        ('model_checkpoint_path: "m-5\n"', None),
        ("", None),
    ],
)
def test_pointer_is_found_among_other_lines(text: str, found: str | None) -> None:
    assert parse_pointer(text.encode()) == found


def test_pointer_with_bytes_that_are_no_text_is_read_all_the_same() -> None:
    assert parse_pointer(b'# \xff\nmodel_checkpoint_path: "m-5"\n') == "m-5"
    assert parse_pointer(b"\xff\xfe\x00") is None


def test_pointer_is_read_up_to_its_bound_and_is_none_where_there_is_no_file(
    directory: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_pointer(directory) is None
    directory.child("checkpoint").write_bytes(b"# long\n" + named("m-5"))
    assert read_pointer(directory) == "m-5"
    monkeypatch.setattr(pointer, "MAX_POINTER_BYTES", 12)
    assert read_pointer(directory) is None


def test_pointer_is_written_as_tensorflow_writes_it() -> None:
    assert pointer_text("a/m-6", ["a/m-5", "a/m-6"]) == (
        b'model_checkpoint_path: "a/m-6"\n'
        b'all_model_checkpoint_paths: "a/m-5"\n'
        b'all_model_checkpoint_paths: "a/m-6"\n'
    )
    odd = pointer_text('ü "m"\n-5', [])
    assert odd == 'model_checkpoint_path: "ü \\"m\\"\\n-5"\n'.encode()
    assert parse_pointer(odd) == 'ü "m"\n-5'


def test_pointer_that_says_so_already_is_not_written_again(directory: Location) -> None:
    assert write_pointer(directory, "m-5", ["m-5"])
    assert not write_pointer(directory, "m-5", ["m-5"])
    assert write_pointer(directory, "m-5", ["m-4", "m-5"])
    assert write_pointer(directory, "m-4", ["m-4"])
    assert read_pointer(directory) == "m-4"


@pytest.mark.parametrize(
    ("here", "below", "pointed", "meant"),
    [
        (["m-5.index"], [], None, (".", ["m-5"], None)),
        (["m-5.index"], [], "m-5", (".", ["m-5"], "m-5")),
        (["m-5.index"], ["m-9.index"], "deep/er/m-9", ("deep/er", ["m-9"], "m-9")),
        (["m-5.index"], ["m-5.index"], "deep/er/m-5", (".", ["m-5"], "m-5")),
        (["m-5.index"], ["m-7.index"], "deep/er/m-9", (".", ["m-5"], "m-9")),
        (["m-5.index"], [], "deep/er/m-9", (".", ["m-5"], "m-9")),
        (["m-5.meta"], ["m-7.index"], "deep/er/m-9", ("deep/er", ["m-7"], "m-9")),
        (["m-5.meta"], [], "deep/er/m-9", (".", ["m-5"], "m-9")),
        ([], ["m-7.index"], "deep/er/m-9", ("deep/er", ["m-7"], "m-9")),
        ([], [], "deep/er/m-9", (".", [], "m-9")),
    ],
)
def test_pointer_leads_below_where_that_is_there_and_never_away_from_a_checkpoint_here(
    directory: Location,
    here: list[str],
    below: list[str],
    pointed: str | None,
    meant: tuple[str, list[str], str | None],
) -> None:
    files = [directory.child(name) for name in here]
    files += [directory.child("deep", "er", name) for name in below]
    for file in files:
        file.write_bytes(b"x")
    place, found, name = followed(directory, group(directory, directory.list()), pointed)
    assert (Path(place.path).relative_to(directory.path).as_posix(), [*found], name) == meant
    assert all(item.directory == place for item in found.values())
