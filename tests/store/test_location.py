"""What is asked of a store's client for each thing that somebody wants of a place, and where is it?"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import (
    OrchestratorError,
    OutputError,
    SourceError,
)
from orchestrator.store.objects import location as locations
from orchestrator.store.objects.local_files import TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from orchestrator.store.objects.location import FileInfo, Location, open_location

SECRET = "s3://key:hunter22@bucket/run"


class Client:
    """A store's client that answers each method with what it was given, or raises it."""

    async_impl = False

    def __init__(self, answer: Any = b"", protocol: Any = ("s3", "s3a")) -> None:
        self.protocol, self.given = protocol, answer

    def _answer(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    cat_file = info = ls = pipe_file = rm_file = _answer


def place(answer: Any = b"", path: str = "bucket/run/file") -> Location:
    return Location(f"s3://{path}", path, Client(answer), 7.0, 1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Each request: whom of what, for what, with which patience; then the method and what it's given."""
    told: list[Any] = []

    class Noted:
        def __init__(self, *given: Any) -> None:
            fs, path, shown, action, deadline_s, attempts = given
            told.append((fs, path, shown(), action, deadline_s, attempts))
            self.fs = fs

        def answer(self, method: str, *args: Any, small: bool = False, **named: Any) -> Any:
            told.append((method, args, small, named))
            return self.fs.given

    monkeypatch.setattr(locations, "Request", Noted)
    return told


@pytest.mark.parametrize(
    ("answer", "work", "action", "request_"),
    [
        (
            b"x",
            lambda it: it.read_bytes(),
            "read",
            ("cat_file", ("bucket/run/file",), False, {"start": None, "end": None}),
        ),
        (
            b"x",
            lambda it: it.read_bytes(2, 3, small=True),
            "read",
            ("cat_file", ("bucket/run/file",), True, {"start": 2, "end": 3}),
        ),
        (
            b"x",
            lambda it: it.read_if_exists(),
            "read",
            ("cat_file", ("bucket/run/file",), True, {"start": None, "end": None}),
        ),
        (
            {"name": "bucket/run/file"},
            lambda it: it.info(),
            "list",
            ("info", ("bucket/run/file",), True, {}),
        ),
        ([], lambda it: it.list(), "list", ("ls", ("bucket/run/file",), True, {"detail": True})),
        (
            None,
            lambda it: it.write_bytes(b"data"),
            "write",
            ("pipe_file", ("bucket/run/file", b"data"), False, {}),
        ),
        (None, lambda it: it.delete(), "delete", ("rm_file", ("bucket/run/file",), False, {})),
        (
            None,
            lambda it: it.call("list", "url", "a", small=True, end=1),
            "list",
            ("url", ("a",), True, {"end": 1}),
        ),
    ],
)
def test_client_is_asked_for_what_is_wanted_of_the_place_with_its_patience(
    asked: list[Any], answer: Any, work: Callable[[Location], Any], action: str, request_: Any
) -> None:
    it = place(answer)
    work(it)
    assert asked == [(it.fs, "bucket/run/file", "s3://bucket/run/file", action, 7.0, 1), request_]


def test_request_shows_no_password(asked: list[Any]) -> None:
    Location(SECRET, "bucket/run", Client()).write_bytes(b"")
    assert "hunter22" not in asked[0][2]


@pytest.mark.parametrize(
    ("answer", "start", "end", "read"),
    [
        (b"0123456789", 2, 5, b"234"),  # who ignores the range answers with the whole
        (b"012345", 2, 5, b"234"),
        (b"234", 2, 5, b"234"),
        (b"2", 2, 5, b"2"),
        (b"23456789", 2, None, b"23456789"),
        (b"01234", None, 5, b"01234"),
        (bytearray(b"0123"), None, None, b"0123"),
    ],
)
def test_bytes_are_those_of_the_range_whatever_the_server_answers_with(
    answer: Any, start: int | None, end: int | None, read: bytes
) -> None:
    data = place(answer).read_bytes(start, end)
    assert data == read
    assert isinstance(data, bytes)


def test_what_is_missing_is_none_or_nothing_or_deleted_already() -> None:
    gone = place(FileNotFoundError("gone"))
    assert gone.read_if_exists() is None
    assert gone.info() is None
    assert not gone.exists()
    assert gone.list() == ()
    gone.delete()
    with pytest.raises(SourceError, match="s3://bucket/run/file doesn't exist"):
        gone.read_bytes()


@pytest.mark.parametrize(
    ("work", "kind", "said"),
    [
        (lambda it: it.read_if_exists(), SourceError, "read"),
        (lambda it: it.info(), SourceError, "list"),
        (lambda it: it.exists(), SourceError, "list"),
        (lambda it: it.list(), SourceError, "list"),
        (lambda it: it.write_bytes(b""), OutputError, "write"),
        (lambda it: it.delete(), OutputError, "delete"),
    ],
)
def test_refusal_is_not_taken_for_nothing_there(
    work: Callable[[Location], Any], kind: type[OrchestratorError], said: str
) -> None:
    with pytest.raises(kind, match=f"no permission to {said} s3://bucket/run/file"):
        work(place(PermissionError("no")))


def test_listing_is_sorted_and_leaves_out_what_is_temporary_and_the_directory_itself() -> None:
    """As S3 lists a directory for which somebody made an object."""
    temporary = f"{TEMPORARY_PREFIX}b{TEMPORARY_SUFFIX}"
    entries = [
        {"name": "bucket/runX/", "size": 0, "type": "directory"},
        {"name": f"bucket/runX/{temporary}", "size": 9},
        {"name": "bucket/runX/b", "size": 2, "ETag": "tag", "mtime": 5.0},
        {"name": "bucket/runX/a/", "size": 0, "type": "directory"},
    ]
    where = place(entries, "bucket/runX/")
    assert where.list() == (
        FileInfo("a", where.child("a"), 0, is_directory=True),
        FileInfo("b", where.child("b"), 2, modified=5.0, tag="tag"),
    )


def test_info_is_of_the_place_itself() -> None:
    it = place({"name": "bucket/run/file", "size": 3, "generation": 17})
    assert it.info() == FileInfo("file", it, 3, tag="17")
    assert it.exists()


def test_place_has_neighbours_with_the_same_patience() -> None:
    it = Location("s3://bucket/runX/", "bucket/runX/", Client(), 7.0, 2)
    below = it.child("a", "b")
    assert (below.url, below.path) == ("s3://bucket/runX/a/b", "bucket/runX/a/b")
    for near in (below, it.sibling("other"), it.parent, it.hurried(7.0, 2)):
        assert (near.fs, near.deadline_s, near.attempts) == (it.fs, 7.0, 2)
    assert (it.name, below.name) == ("runX", "b")
    assert it.sibling("other").url == "s3://bucket/other"
    assert below.parent.path == "bucket/runX/a"
    assert (it.hurried(3.0).deadline_s, it.hurried(3.0).attempts) == (3.0, 1)


def test_directories_above_a_local_file_end_at_the_root() -> None:
    it = open_location("/x/y")
    assert (it.parent.path, it.parent.parent.path, it.parent.parent.parent.path) == (
        "/x",
        "/",
        "",
    )
    assert it.parent.parent.child("a").path == "/a"


@pytest.mark.parametrize(("path", "above"), [("/run/X", "/run"), ("/run/XX/", "/run")])
def test_directory_above_is_the_same_whatever_the_name(path: str, above: str) -> None:
    it = Location(path, path, Client())
    assert (it.parent.url, it.parent.path) == (above, above)


def test_what_is_asked_once_has_the_deadline_of_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    it = place()

    def once(*given: Any, **named: Any) -> Any:
        return given, named

    monkeypatch.setattr(locations, "once", once)
    assert it.once("ls", "a", detail=True) == ((it.fs, 7.0, "ls", "a"), {"detail": True})


@pytest.mark.parametrize(("async_impl", "expected"), [(True, True), (False, False)])
def test_place_knows_its_client(async_impl: bool, expected: bool) -> None:
    it = place()
    it.fs.async_impl = async_impl
    assert (it.protocol, it.is_local, it.is_async) == ("s3", False, expected)


def test_special_local_file_is_refused_and_a_directory_that_is_none_as_well(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=f"can't read {tmp_path}/pipe"):
        open_location(str(tmp_path / "pipe")).read_bytes()
    (tmp_path / "file").write_bytes(b"here")
    with pytest.raises(OutputError, match=f"can't write {tmp_path}/file/below"):
        open_location(str(tmp_path / "file" / "below")).write_bytes(b"")
    assert (tmp_path / "file").read_bytes() == b"here"
