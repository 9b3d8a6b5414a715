"""What is somebody told whom a store refuses something, and what to do next?"""

from __future__ import annotations

import errno
from typing import Any

import pytest

from orchestrator.errors import (
    AlreadyExists,
    OrchestratorError,
    OutputError,
    SourceError,
    StorageUnavailable,
)
from orchestrator.store.objects.failures import Action, one_line, translate

URL = "gs://b/x"
SPELLING = "Check the URL and its spelling"
CREDENTIALS = "Check that the credentials are there, haven't expired and allow this, for example with the store's own command"
OWNER = "Check who owns the directory and whether the file system is mounted read-only"


@pytest.mark.parametrize(
    ("error", "action", "kind", "message", "remedy", "more"),
    [
        (
            FileNotFoundError("n"),
            "read",
            SourceError,
            "gs://b/x doesn't exist",
            SPELLING,
            {"missing": True},
        ),
        (
            NotADirectoryError("n"),
            "list",
            SourceError,
            "gs://b/x doesn't exist",
            SPELLING,
            {"missing": True},
        ),
        (
            FileNotFoundError("n"),
            "delete",
            OutputError,
            "gs://b/x doesn't exist",
            SPELLING,
            {"missing": True},
        ),
        (
            FileNotFoundError("n"),
            "write",
            OutputError,
            "can't write gs://b/x: there is no such bucket or directory (FileNotFoundError: n)",
            "Check the URL and its spelling; what it names has to be made first",
            {"missing": True},
        ),
        (
            NotADirectoryError("n"),
            "write",
            OutputError,
            "can't write gs://b/x: NotADirectoryError: n",
            "Name a directory that isn't there yet, or an empty one",
            {},
        ),
        (
            FileExistsError("n"),
            "write",
            AlreadyExists,
            "gs://b/x exists already",
            "Another writer was first; see its holder",
            {},
        ),
        (
            OSError("Forbidden: no"),
            "read",
            SourceError,
            "no permission to read gs://b/x: OSError: Forbidden: no",
            CREDENTIALS,
            {},
        ),
        (
            PermissionError(errno.EACCES, "n"),
            "delete",
            OutputError,
            "no permission to delete gs://b/x: PermissionError: [Errno 13] n",
            OWNER,
            {},
        ),
        (
            OSError(errno.ENOSPC, "n"),
            "read",
            OutputError,
            "no space left to read gs://b/x: OSError: [Errno 28] n",
            "Free space or raise the quota; the run goes on from its newest checkpoint",
            {"full": True},
        ),
        (
            OSError(errno.ENOSYS, "n"),
            "list",
            SourceError,
            "the store can't list gs://b/x: OSError: [Errno 38] n",
            "Use another store",
            {},
        ),
        (
            IsADirectoryError(errno.EISDIR, "n"),
            "read",
            SourceError,
            "can't read gs://b/x: IsADirectoryError: [Errno 21] n",
            "Check the name, the bucket's too, and the client's settings: no further try can help",
            {},
        ),
        (
            TimeoutError("n"),
            "write",
            StorageUnavailable,
            "the store didn't write gs://b/x: TimeoutError: n",
            "Check that the store is up and can be reached from here, then run the same command again",
            {},
        ),
    ],
)
def test_refusal_of_a_store_is_told_with_what_to_do(
    error: Exception,
    action: Action,
    kind: type[OrchestratorError],
    message: str,
    remedy: str,
    more: dict[str, Any],
) -> None:
    told = translate(error, URL, action)
    assert type(told) is kind
    assert (told.message, told.remedy) == (message, remedy)
    assert told.details == {"url": URL, "action": action, **more}


def test_error_of_ours_stays_what_it_is() -> None:
    ours = OutputError("full")
    assert translate(ours, URL, "read") is ours


def test_text_of_an_error_is_one_line_without_credentials_and_of_some_length() -> None:
    assert one_line(ValueError("a\n  b\tc")) == "ValueError: a b c"
    assert one_line(ValueError()) == "ValueError: no text"
    assert one_line(ValueError("x" * 1000)) == "ValueError: " + "x" * 300
    assert "geheim" not in one_line(ValueError("https://me:geheim1@host/x refused"))
