"""Is an object created once by whoever is first, and is a store that can't hold that found out?"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import stamina

from orchestrator.errors import AlreadyExists, OutputError
from orchestrator.store.objects import exclusive
from orchestrator.store.objects.exclusive import create_once, weaker_promise
from orchestrator.store.objects.location import Location, open_location


class Store:
    """A client; ``enforces`` whether it holds the condition of an exclusive create."""

    async_impl = False

    def __init__(self, protocol: str = "s3", enforces: bool = True) -> None:
        self.protocol, self.enforces = protocol, enforces
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.fails: list[Exception] = []

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        self.asked.append((mode, path))
        if mode == "create" and self.enforces and path in self.files:
            raise FileExistsError(path)
        if self.fails and (error := self.fails.pop(0)):
            raise error
        self.files[path] = data

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files

    def rm_file(self, path: str) -> None:
        self.files.pop(path, None)


def place(store: Any) -> Location:
    return Location(url="s3://b/run", path=f"b-{uuid.uuid4().hex}/run", fs=store)


def test_object_that_stands_is_told_from_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    once = place(store).child("once.json")
    create_once(once, b"mine")
    create_once(once, b"mine")  # the reply was lost
    with pytest.raises(AlreadyExists) as refused:
        create_once(once, b"yours")
    assert refused.value.message == "s3://b/run/once.json exists already, written by someone else"
    assert refused.value.remedy == (
        "Another driver works on this output; see `tfresume status` for its holder"
    )
    assert refused.value.details == {"url": "s3://b/run/once.json"}
    assert store.asked == [("create", once.path)] * 3
    assert once.read_bytes() == b"mine"


def test_empty_object_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"^create_once needs bytes: s3fs"):
        create_once(place(Store()).child("x"), b"")


def test_create_is_tried_as_often_as_any_request_and_what_stays_is_told() -> None:
    store = Store()
    store.fails = [TimeoutError("n"), TimeoutError("n")]
    where = place(store)
    with stamina.set_testing(True, attempts=100, cap=True):
        create_once(where.child("x"), b"mine")
        assert len(store.asked) == 3
        store.fails = [PermissionError("n")]
        with pytest.raises(OutputError, match="no permission to write s3://b/run/y"):
            create_once(where.child("y"), b"mine")


def test_create_has_the_patience_of_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(exclusive, "retried", lambda work, *given: told.append(given))
    create_once(place(Store()).hurried(7.0, 2).child("x"), b"mine")
    assert told == [(2, 21.0)]


@pytest.mark.parametrize("protocol", ["gs", "gcs", "s3", "s3a", "abfs", "abfss", "az"])
def test_store_that_creates_exclusively_promises_all_and_keeps_nothing_of_the_trial(
    protocol: str,
) -> None:
    store = Store(protocol)
    where = place(store)
    assert weaker_promise(where) == ""
    assert store.files == {}
    assert [mode for mode, _ in store.asked] == ["create", "create"]
    first, second = (path for _, path in store.asked)
    assert first == second
    assert first.startswith(f"{where.path}/_tfresume/probe-")


def told(what: str) -> str:
    return (
        f"s3://b/run: this store {what}. Two drivers that start on this output within the same second could both believe "
        "that they hold it; start only one at a time. Checkpoints stay verified either way"
    )


def test_store_that_promises_less_is_told_with_what_that_can_lose() -> None:
    careless = Store(enforces=False)
    assert weaker_promise(place(careless)) == told(
        "accepts exclusive creates but doesn't enforce them"
    )
    assert careless.files == {}
    assert weaker_promise(place(Store("sftp"))) == told("has no exclusive create")
    silent = Store(enforces=False)
    silent.fails = [None, PermissionError("n")]  # type: ignore[list-item]
    assert weaker_promise(place(silent)).startswith(
        "s3://b/run: this store didn't answer whether it creates exclusively (no permission to write"
    )
    assert silent.files == {}


def test_trial_is_hurried_so_that_a_start_waits_for_one_try_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[float, int]] = []
    real = exclusive.create_once

    def create(location: Location, data: bytes) -> None:
        seen.append((location.deadline_s, location.attempts))
        real(location, data)

    monkeypatch.setattr(exclusive, "create_once", create)
    weaker_promise(place(Store()))
    assert seen == [(60.0, 1)] * 2


@pytest.mark.parametrize("url", ["memory://x", "{}"])
def test_own_memory_and_disk_need_no_trial(url: str, tmp_path: Any) -> None:
    assert weaker_promise(open_location(url.format(tmp_path))) == ""


def test_store_without_a_condition_is_looked_at_before_it_is_written() -> None:
    store = Store("sftp")
    once = place(store).child("once")
    create_once(once, b"mine")
    with pytest.raises(AlreadyExists):
        create_once(once, b"yours")
    assert store.asked == [("overwrite", once.path)]
    assert store.files[once.path] == b"mine"
