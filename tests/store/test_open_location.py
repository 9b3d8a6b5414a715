"""What is a store's client made with for a URL, and what is told where none can be made?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError, OrchestratorError, SourceError, StorageUnavailable
from orchestrator.store.objects import location as locations
from orchestrator.store.objects.clients import client_settings
from orchestrator.store.objects.location import open_location

SECRET = "s3://key:hunter22@bucket/run"
CLIENT = object()


class Opened:
    """What a client is made with."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.answer: Any = (CLIENT, "bucket/run/")

    def url_to_fs(self, url: str, **settings: Any) -> Any:
        self.given.append((url, settings))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    made = Opened()
    monkeypatch.setattr(locations, "url_to_fs", made.url_to_fs)
    return made


@pytest.mark.parametrize(
    ("url", "protocol", "shown"),
    [
        ("s3://bucket/run/", "s3", "s3://bucket/run"),
        ("s3://bucket/run://X", "s3", "s3://bucket/run://X"),
        ("GS://bucket/run", "gs", "GS://bucket/run"),
        ("simplecache::zip::abfs://bucket/run", "abfs", "simplecache::zip::abfs://bucket/run"),
        ("file:///bucket/run/", "file", "bucket/run/"),
        ("local:///bucket/run", "local", "bucket/run/"),
        ("sftp://host//", "sftp", "sftp://host"),
    ],
)
def test_client_is_made_with_the_settings_of_its_protocol(
    opened: Opened, url: str, protocol: str, shown: str
) -> None:
    it = open_location(url)
    assert opened.given == [(url, client_settings(protocol))]
    assert (it.url, it.path, it.fs) == (shown, "bucket/run", opened.answer[0])


def test_options_come_before_the_settings(opened: Opened) -> None:
    open_location("memory://run", use_listings_cache=True, more=1)
    assert opened.given[0][1] == {"use_listings_cache": True, "more": 1}


@pytest.mark.parametrize(("path", "kept"), [("/", "/"), ("/X/", "/X"), ("/a", "/a"), ("", "")])
def test_root_of_a_store_stays_one(opened: Opened, path: str, kept: str) -> None:
    opened.answer = CLIENT, path
    assert open_location("sftp://host/").path == kept


@pytest.mark.parametrize(
    ("error", "kind", "said", "remedy"),
    [
        (
            ImportError("no s3fs"),
            ConfigError,
            "the client of s3:// isn't installed (no s3fs)",
            "pip install s3fs",
        ),
        (
            ValueError(f"not known: {SECRET}"),
            ConfigError,
            "bucket/run: not known: s3://",
            "Use a path or a URL that fsspec knows",
        ),
        (
            RuntimeError(f"strange {SECRET}"),
            ConfigError,
            "bucket/run can't be opened: RuntimeError: strange",
            "Check the URL and the client's configuration",
        ),
        (PermissionError("no key"), SourceError, "no permission to read s3://", "Check that "),
        (
            ConnectionResetError("n"),
            StorageUnavailable,
            "the store didn't read s3://",
            "Check that",
        ),
    ],
)
def test_url_that_cannot_be_opened_is_told_without_passwords_of_the_client(
    opened: Opened, error: Exception, kind: type[OrchestratorError], said: str, remedy: str
) -> None:
    opened.answer = error
    with pytest.raises(kind) as told:
        open_location("s3://bucket/run")
    assert said in told.value.message
    assert "bucket/run" in told.value.message
    assert "hunter22" not in str(told.value)
    assert told.value.remedy.startswith(remedy)
    assert told.value.__cause__ is error


def test_plain_path_is_of_this_machine_from_its_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of")
    assert open_location("run/").url == open_location("run").path == str(tmp_path / "run")
    assert open_location("~/run").path == "/home/of/run"
    assert open_location("run").is_local
