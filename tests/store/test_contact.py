"""A store that never answered is given up soon and with its reason; one that has answered is given
its time.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec.asyn import get_loop

from orchestrator.errors import StorageUnavailable
from orchestrator.store.objects import contact
from orchestrator.store.objects.location import Location, open_location
from tests.turns import quick_in_turn


class Store:
    """An asynchronous client whose first answers are errors."""

    protocol, async_impl, asynchronous = "fake", True, False

    def __init__(self, name: str, fails: int) -> None:
        self._fs_token, self.fails = name, fails
        self.asked: list[str] = []
        self.loop = get_loop()

    async def _ls(self, path: str, **_: Any) -> list[dict[str, Any]]:
        return self._answer("ls", [])

    async def _info(self, path: str) -> dict[str, Any]:
        return self._answer("info", {"name": path, "size": 1})

    async def _cat_file(self, path: str, **_: Any) -> bytes:
        return self._answer("cat", b"1")

    def _answer(self, what: str, answer: Any) -> Any:
        self.asked.append(what)
        self.fails -= 1
        if self.fails >= 0:
            raise ConnectionError("refused")
        return answer


def at(store: Store) -> Location:
    return Location("fake://b/x", "b/x", store)


@pytest.mark.parametrize(
    "ask", quick_in_turn([Location.list, Location.info, Location.read_if_exists], 3)
)
def test_store_that_never_answered_is_given_up_when_the_first_contacts_time_is_over(
    ask: Callable[[Location], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "FIRST_CONTACT_S", 0.01)
    monkeypatch.setattr(contact, "_answers", {})
    store = Store(f"dead {ask}", 1000)
    begun_s = time.monotonic()
    with pytest.raises(StorageUnavailable, match="refused"):
        ask(at(store))
    assert time.monotonic() - begun_s < 10
    assert not contact.has_answered("fake", store, "b/x")
    store.fails = 0  # it has come up
    assert at(store).list() == ()
    assert contact.has_answered("fake", store, "b/other")
    store.asked, store.fails = [], 2
    # and is now worth more tries than the first contact's time allows
    assert at(store).list() == ()
    assert store.asked == ["ls", "ls", "ls"]


@pytest.fixture
def nobody() -> str:
    """The address of a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_unreachable_google_storage_is_told_with_what_was_tried(
    nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "FIRST_CONTACT_S", 1.0)
    begun_s = time.monotonic()
    with pytest.raises(StorageUnavailable, match=r"no connection to 127\.0\.0\.1:\d+ \(.*refused"):
        open_location("gs://b/x", endpoint_url=nobody, token="anon").list()
    assert time.monotonic() - begun_s < 15  # it was 107


def test_command_line_prints_no_librarys_traceback() -> None:
    script = "import logging; from launch.terminal import configure_logging; configure_logging(verbose=%s)\n"
    script += "try: 1 / 0\nexcept ZeroDivisionError: logging.getLogger('gcsfs').exception('out of retries s3://k:geheim123@b')"
    quiet, loud = (
        subprocess.run(
            [sys.executable, "-c", script % verbose],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        for verbose in (False, True)
    )
    assert quiet.stderr == ""
    assert "Traceback" in loud.stderr
    assert "geheim123" not in loud.stderr


def test_answers_count_for_the_bucket_of_one_client() -> None:
    """Another account, or another address, of a bucket of that name may still be silent."""
    mine, other = Store("counts-mine", 0), Store("counts-other", 0)
    contact.answered("fake", mine, "/Xbucket/x")
    contact.answered("fake", mine, "/bucket/x")
    contact.answered("fake", mine, "bucket")
    assert contact.answers("fake", mine, "bucket/y/z") == 2
    assert contact.answers("fake", mine, "Xbucket") == 1
    assert contact.has_answered("fake", mine, "bucket")
    for protocol, fs, path in (
        ("fake", other, "bucket"),
        ("fake", mine, "b"),
        ("s3", mine, "bucket"),
    ):
        assert not contact.has_answered(protocol, fs, path)


@pytest.mark.parametrize(
    ("client", "asked"),
    [
        ({"base": "https://storage.x/v1"}, ("storage.x", 443)),
        ({"base": "http://storage.x/v1"}, ("storage.x", 80)),
        ({"base": "http://storage.x:4443", "endpoint_url": "http://y"}, ("storage.x", 4443)),
        ({"base": None, "endpoint_url": "http://y"}, ("y", 80)),
        ({"endpoint_url": None}, None),
        ({}, None),
    ],
)
def test_silence_is_explained_by_what_a_plain_connection_meets(
    client: dict[str, Any], asked: tuple[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[Any, float]] = []
    answers: list[Any] = [SimpleNamespace(close=lambda: None), OSError("refused")]

    def connects(place: Any, timeout_s: float) -> Any:
        tried.append((place, timeout_s))
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(contact, "socket", SimpleNamespace(create_connection=connects))
    fs = SimpleNamespace(**client)
    if asked is None:
        assert contact.why_silent(fs) == "no answer within 10 s"
        assert not tried
        return
    place = f"{asked[0]}:{asked[1]}"
    takes = f"{place} takes connections, but gave no answer within 10 s"
    assert contact.why_silent(fs) == takes
    assert contact.why_silent(fs) == f"no connection to {place} (refused)"
    assert tried == [(asked, contact.PROBE_S)] * 2
