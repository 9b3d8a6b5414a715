"""Every store keeps the same promises: reading, writing, listing, deleting, creating once."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from orchestrator.errors import AlreadyExists, ConfigError, SourceError
from orchestrator.store.objects.exclusive import create_once, weaker_promise
from orchestrator.store.objects.location import Location, open_location

ODD_NAMES = [
    "plain",
    "with space",
    "ümläut-日本",
    "star*?[a]",
    "semi;colon&amp=1",
    "percent%20",
    "plus+plus",
    "a.b-c_d",
    "#hash",
]


def test_location_written_file_reads_back(store: Location) -> None:
    file = store.child("deep", "er", "file.bin")
    file.write_bytes(b"first")
    file.write_bytes(b"second")
    assert file.read_bytes() == b"second"
    assert file.read_bytes(2, 5) == b"con"
    assert file.read_if_exists() == b"second"
    info = file.info()
    assert info is not None
    assert (info.name, info.size_bytes, info.is_directory) == ("file.bin", 6, False)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_location_odd_name_survives_listing_and_deleting(store: Location, name: str) -> None:
    store.child(name).write_bytes(b"1")
    store.child("other").write_bytes(b"22")
    assert {entry.name: entry.size_bytes for entry in store.list()} == {name: 1, "other": 2}
    assert store.list()[0].location.exists()
    store.child(name).delete()
    assert [entry.name for entry in store.list()] == ["other"]


def test_location_missing_is_none_or_empty(store: Location) -> None:
    missing = store.child("nothing")
    assert missing.read_if_exists() is None
    assert missing.info() is None
    assert missing.list() == ()
    missing.delete()
    with pytest.raises(SourceError, match="doesn't exist") as caught:
        missing.read_bytes()
    assert caught.value.details["missing"]


def test_location_listing_shows_directories_and_only_own_level(store: Location) -> None:
    store.child("a", "one").write_bytes(b"1")
    store.child("a", "b", "two").write_bytes(b"2")
    assert [(entry.name, entry.is_directory) for entry in store.list()] == [("a", True)]
    assert [(entry.name, entry.is_directory) for entry in store.child("a").list()] == [
        ("b", True),
        ("one", False),
    ]
    directory = store.child("a").info()
    assert directory is not None
    assert directory.is_directory


def test_location_listing_right_after_a_write_shows_it(store: Location) -> None:
    for number in range(5):
        store.child(f"{number}").write_bytes(b"x")
        assert len(store.list()) == number + 1


def test_location_pickled_reads_the_same(store: Location) -> None:
    if store.protocol == "memory":
        pytest.skip("memory is of one process by nature")
    store.child("file").write_bytes(b"there")
    copy = pickle.loads(pickle.dumps(store.child("file")))
    assert copy == store.child("file")
    assert copy.read_bytes() == b"there"


def test_create_once_second_writer_is_refused(store: Location) -> None:
    file = store.child("once")
    create_once(file, b"mine")
    create_once(file, b"mine")  # the same writer asking again after a lost reply
    with pytest.raises(AlreadyExists):
        create_once(file, b"yours")
    assert file.read_bytes() == b"mine"


def test_create_once_eight_at_a_time_exactly_one_wins(store: Location) -> None:
    start = threading.Barrier(8)

    def race(number: int) -> bool:
        start.wait(10)
        try:
            create_once(store.child("contested"), f"writer {number}".encode() * 100)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert won.count(True) == 1
    assert store.child("contested").read_bytes() == f"writer {won.index(True)}".encode() * 100
    assert [entry.name for entry in store.list()] == ["contested"]


def test_weaker_promise_store_with_exclusive_create_is_silent_and_leaves_nothing(
    store: Location,
) -> None:
    assert weaker_promise(store) == ""
    assert store.child("_tfresume").list() == ()


@pytest.mark.parametrize("url", ["", "  ", "nonsense://x/y", "gs+ftp://a"])
def test_open_location_unusable_url_names_it(url: str) -> None:
    with pytest.raises(ConfigError):
        open_location(url)


def test_open_location_path_with_double_colon_is_a_path(tmp_path: object) -> None:
    location = open_location(f"{tmp_path}/a::b")
    location.child("x").write_bytes(b"1")
    assert location.is_local
    assert [entry.name for entry in location.list()] == ["x"]


def test_location_shown_hides_the_password() -> None:
    location = replace(open_location("memory://host/run"), url="memory://user:hunter22@host/run")
    assert "hunter22" not in location.shown
    assert "hunter22" not in location.child("a").shown


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("gs:/bucket/run", "gs://bucket/run"),
        ("s3//bucket/run", "s3://bucket/run"),
        ("az:bucket", "az://bucket"),
        ("https:/host/x", "https://host/x"),
    ],
)
def test_location_of_a_url_with_a_slash_or_colon_lost_is_refused_with_what_was_meant(
    url: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match="neither a URL nor a likely path") as caught:
        open_location(url)
    assert meant in caught.value.remedy


@pytest.mark.parametrize(
    "path", ["./gs:/bucket", "/data/s3//x", "gs/run", "files/run", "http", "s3", "memory:"]
)
def test_location_of_a_path_that_merely_looks_like_a_url_is_a_path(path: str) -> None:
    assert open_location(path).is_local
