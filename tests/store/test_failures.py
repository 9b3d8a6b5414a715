"""What the exceptions of five storage clients mean, and what a store that creates nothing
exclusively is told about.
"""

from __future__ import annotations

import errno
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import google.auth.exceptions
import pytest
import requests.exceptions
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.local import LocalFileSystem
from gcsfs.retry import HttpError

from orchestrator.errors import (
    AlreadyExists,
    OrchestratorError,
    OutputError,
    SourceError,
    StorageUnavailable,
)
from orchestrator.store.objects.client_errors import Meaning, meaning
from orchestrator.store.objects.exclusive import create_once, weaker_promise
from orchestrator.store.objects.failures import translate
from orchestrator.store.objects.location import Location, open_location
from tests.servers.programs import Server


def boto(code: str) -> Exception:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "m"}}, "GetObject")


TABLE: list[tuple[Exception, Meaning]] = [
    (FileNotFoundError("x"), Meaning.MISSING),
    (NotADirectoryError("x"), Meaning.MISSING),
    (boto("NoSuchKey"), Meaning.MISSING),
    (HttpError({"code": 404, "message": "no"}), Meaning.MISSING),
    (FileExistsError("x"), Meaning.EXISTS),
    (
        OSError(errno.EINVAL, "At least one of the pre-conditions you specified did not hold"),
        Meaning.EXISTS,
    ),
    (boto("PreconditionFailed"), Meaning.EXISTS),
    (PermissionError("x"), Meaning.DENIED),
    (OSError(errno.EROFS, "read-only"), Meaning.DENIED),
    (OSError("Forbidden: https://x\nno"), Meaning.DENIED),
    (HttpError({"code": 401, "message": "Invalid Credentials"}), Meaning.DENIED),
    (boto("ExpiredToken"), Meaning.DENIED),
    (botocore.exceptions.NoCredentialsError(), Meaning.DENIED),
    (google.auth.exceptions.DefaultCredentialsError("x"), Meaning.DENIED),
    (google.auth.exceptions.RefreshError("x"), Meaning.DENIED),
    (OSError(errno.ENOSPC, "full"), Meaning.FULL),
    (OSError(errno.EDQUOT, "quota"), Meaning.FULL),
    (OSError(errno.ENOSYS, "no"), Meaning.UNSUPPORTED),
    (TimeoutError("x"), Meaning.TRANSIENT),
    (FSTimeoutError("x"), Meaning.TRANSIENT),
    (ConnectionResetError("x"), Meaning.TRANSIENT),
    (OSError(errno.EBUSY, "SlowDown"), Meaning.TRANSIENT),
    (OSError(errno.EREMOTEIO, "InternalError"), Meaning.TRANSIENT),
    (aiohttp.ClientPayloadError("x"), Meaning.TRANSIENT),
    (aiohttp.ServerDisconnectedError("x"), Meaning.TRANSIENT),
    (requests.exceptions.ProxyError("x"), Meaning.TRANSIENT),
    (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), Meaning.TRANSIENT),
    (google.auth.exceptions.TransportError("x"), Meaning.TRANSIENT),
    (HttpError({"code": 503, "message": "busy"}), Meaning.TRANSIENT),
    (boto("SlowDown"), Meaning.TRANSIENT),
    (ValueError("Bad Request: b/x\nInvalid bucket name"), Meaning.INVALID),
    (json.JSONDecodeError("a proxy's page", "<html>", 0), Meaning.UNKNOWN),
    (HttpError({"code": 400, "message": "Invalid bucket name: 'Bad!'"}), Meaning.INVALID),
    (boto("InvalidBucketName"), Meaning.INVALID),
    (botocore.exceptions.ParamValidationError(report="Invalid bucket name"), Meaning.INVALID),
    (botocore.exceptions.ProfileNotFound(profile="x"), Meaning.INVALID),
    (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), Meaning.TRANSIENT),
    (botocore.exceptions.ConnectionClosedError(endpoint_url="x"), Meaning.TRANSIENT),
    (botocore.exceptions.ResponseStreamingError(error="x"), Meaning.TRANSIENT),
    (requests.exceptions.InvalidURL("x"), Meaning.INVALID),
    (IsADirectoryError(errno.EISDIR, "Is a directory"), Meaning.INVALID),
    (OSError(errno.ENAMETOOLONG, "File name too long"), Meaning.INVALID),
]


@pytest.mark.parametrize(
    ("error", "expected"),
    TABLE,
    ids=lambda value: f"{value!r}"[:50] if isinstance(value, Exception) else None,
)
def test_meaning_of_a_clients_exception(error: Exception, expected: Meaning) -> None:
    assert meaning(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    TABLE,
    ids=lambda value: f"{value!r}"[:50] if isinstance(value, Exception) else None,
)
def test_translate_names_the_url_and_survives_pickling(error: Exception, expected: Meaning) -> None:
    for action in ("read", "write"):
        ours = translate(error, "gs://b/x", action)
        assert "gs://b/x" in ours.message
        assert ours.remedy
        assert "\n" not in str(ours)
        copy = pickle.loads(pickle.dumps(ours))
        assert (type(copy), copy.details) == (type(ours), ours.details)
        transient = expected in (Meaning.TRANSIENT, Meaning.UNKNOWN)
        assert isinstance(ours, StorageUnavailable) is transient
        if not transient:
            assert isinstance(
                ours,
                SourceError
                if action == "read" and expected not in (Meaning.FULL, Meaning.EXISTS)
                else OutputError,
            )


class Plain(LocalFileSystem):
    """A store whose client only looks before it writes."""

    protocol = "plain"


class Careless:
    """A store that takes the condition of an exclusive create and ignores it."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._fs, name)
        if name != "_pipe_file":
            return value
        return lambda path, data, mode="overwrite": value(path, data)


def test_weaker_promise_store_that_ignores_the_condition_is_found_out(gcs_server: Server) -> None:
    where = open_location(gcs_server.url("careless"), **gcs_server.options())
    said = weaker_promise(replace(where, fs=Careless(where.fs)))
    assert "accepts exclusive creates but doesn't enforce them" in said
    assert "start only one at a time" in said
    assert where.child("_tfresume").list() == ()


def test_weaker_promise_store_without_exclusive_create_says_so_and_still_works(
    tmp_path: Path,
) -> None:
    where = Location(url="plain://run", path=str(tmp_path), fs=Plain())
    assert "has no exclusive create" in weaker_promise(where)
    create_once(where.child("once"), b"mine")
    with pytest.raises(AlreadyExists):
        create_once(where.child("once"), b"yours")
    assert where.child("once").read_bytes() == b"mine"


def test_read_only_output_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("orchestrator.store.objects.local_files.os.link", refuse)
    with pytest.raises(OutputError, match="no permission to write") as caught:
        create_once(open_location(str(tmp_path)).child("x"), b"1")
    assert "read-only" in caught.value.remedy
    assert not isinstance(caught.value, AlreadyExists)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(caught.value, OrchestratorError)
