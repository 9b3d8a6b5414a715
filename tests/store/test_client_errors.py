"""What does a client's exception mean, by its code, its kind or its number, however it's wrapped?"""

from __future__ import annotations

import errno
from typing import Any

import botocore.exceptions
import google.auth.exceptions
import pytest
import requests.exceptions
from aiohttp import InvalidURL
from gcsfs.retry import ChecksumError

from orchestrator.store.objects import client_errors
from orchestrator.store.objects.client_errors import Meaning, is_transient, meaning


class Coded(Exception):
    """Of a client that tells a code in one attribute or another."""

    def __init__(self, **told: Any) -> None:
        super().__init__("no")
        self.__dict__.update(told)


class Denied(botocore.exceptions.NoCredentialsError):
    """Of a kind that is known by what it's derived from."""


def error_of(module: str, name: str = "Strange") -> Exception:
    """An exception of a client's module that nobody has heard of."""
    return type(name, (Exception,), {"__module__": module})("no")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((Coded(**{name: 403}), Meaning.DENIED) for name in ("code", "status", "status_code")),
        (Coded(status=404, status_code=503), Meaning.MISSING),
        (Coded(code=404, status=503), Meaning.MISSING),
        (Coded(code=0, status_code=503), Meaning.TRANSIENT),
        (Coded(code="SlowDown"), Meaning.TRANSIENT),
        (Coded(code=412), Meaning.EXISTS),
        (Coded(code=400), Meaning.INVALID),
        (Coded(code=418), Meaning.UNKNOWN),
        (Coded(code=403.0), Meaning.UNKNOWN),
        (Coded(code=[403]), Meaning.UNKNOWN),
        (Coded(response={}, code=503), Meaning.TRANSIENT),
        (Coded(response={"Error": {}}, code=503), Meaning.TRANSIENT),
        (Coded(response={"Error": {"Code": "NoSuchKey"}}, code=503), Meaning.MISSING),
        (Coded(response="a text", code=503), Meaning.TRANSIENT),
        (Denied(), Meaning.DENIED),
        (OSError("Forbidden: gs://b/x"), Meaning.DENIED),
        (OSError("It's Forbidden: gs://b/x"), Meaning.UNKNOWN),
        (RuntimeError("PRE-CONDITION failed"), Meaning.EXISTS),
        (ChecksumError("md5"), Meaning.TRANSIENT),
        (EOFError(), Meaning.TRANSIENT),
        (ValueError("Bad name"), Meaning.INVALID),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "no"), Meaning.UNKNOWN),
        (InvalidURL("x"), Meaning.INVALID),
        (requests.exceptions.MissingSchema("x"), Meaning.INVALID),
        (requests.exceptions.ChunkedEncodingError("x"), Meaning.TRANSIENT),
        (botocore.exceptions.NoRegionError(), Meaning.INVALID),
        (
            botocore.exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
            Meaning.TRANSIENT,
        ),
        (google.auth.exceptions.GoogleAuthError("x"), Meaning.TRANSIENT),
        *(
            (error_of(f"{module}.sub"), Meaning.TRANSIENT)
            for module in client_errors._TRANSIENT_MODULES
        ),
        (error_of("elsewhere.aiohttp"), Meaning.UNKNOWN),
        (error_of("azure.core.exceptions", "ClientAuthenticationError"), Meaning.DENIED),
        *((OSError(number, "no"), Meaning.DENIED) for number in (errno.EROFS,)),
        *((OSError(number, "no"), Meaning.FULL) for number in (errno.ENOSPC, errno.EFBIG)),
        *((OSError(number, "no"), Meaning.TRANSIENT) for number in (errno.EIO, errno.ESTALE)),
        *(
            (OSError(number, "no"), Meaning.INVALID)
            for number in (errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
        ),
        *((OSError(number, "no"), Meaning.UNSUPPORTED) for number in (errno.ENOSYS, errno.ENOTSUP)),
        (OSError(errno.ENOTTY, "no"), Meaning.UNKNOWN),
        (OSError("no number"), Meaning.UNKNOWN),
        (Coded(errno=errno.EACCES), Meaning.UNKNOWN),
    ],
    ids=lambda value: f"{value!r}"[:50] if isinstance(value, Exception) else None,
)
def test_exception_means_the_same_wherever_a_client_tells_it(
    error: Exception, expected: Meaning
) -> None:
    assert meaning(error) is expected
    assert is_transient(error) is (expected is Meaning.TRANSIENT)
