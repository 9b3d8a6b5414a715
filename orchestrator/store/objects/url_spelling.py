"""Is a URL spelled as something that can be meant?

Rule: what can only be a mistake is refused before anything is touched, since a path that nobody
meant is soon a directory that nobody finds: a lost slash, a variable that no shell has put in, a
bucket without a name. Credentials are refused without repeating them: a URL goes into logs,
journals and job metadata, and credentials belong into the environment.
"""

from __future__ import annotations

import os
import re

from orchestrator.errors import ConfigError
from orchestrator.redaction import WITHOUT_CREDENTIALS, holds_credential, redacted

_MISTYPED = re.compile(
    r"(gs|gcs|s3a?|az|abfss?|hdfs|https?|memory|file)(?::/?(?!/)|//)(?=\w)", re.IGNORECASE
)
"""What a URL becomes when a slash or the colon is lost, as in `Path("gs://b/x")`; taken for a path
it would fill a local directory.
"""
_VARIABLE = re.compile(r"\$\{\w+[^}]*\}|(?:^|(?<=/))\$[A-Za-z_]\w*(?=/|$)|\$\(")
_WITH_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})

_ONE_NAME = {"gcs": "gs", "s3a": "s3", "abfs": "az", "abfss": "az"}
"""Protocols that fsspec knows by several names, to the one that is meant here."""


def one_protocol(url: str) -> str:
    """The URL with one name for a store that has several: what is written as ``gcs://b/x`` today
    may be ``gs://b/x`` tomorrow.
    """
    scheme, colon, rest = url.partition("://")
    return f"{_ONE_NAME.get(scheme, scheme)}{colon}{rest}"


def check_spelling(url: str) -> None:
    """Raises ConfigError where ``url`` can't be meant; says what to write instead."""
    if not url.strip():
        raise ConfigError("the URL is empty", remedy="Give a path or a URL such as gs://bucket/run")
    mistyped = None if "://" in url else _MISTYPED.match(url)
    meant = url if mistyped is None else f"{mistyped[1]}://{url[mistyped.end() :]}"
    _refuse_credentials(meant)
    if mistyped is not None:
        raise ConfigError(
            f"{redacted(url)} is neither a URL nor a likely path",
            remedy=f"Write {redacted(meant)}, or ./{redacted(url)} for a path",
        )
    if "\0" in url:
        raise ConfigError(
            f"{redacted(url)!r} holds a zero byte", remedy="Take it out: no store has such names"
        )
    if (variable := _VARIABLE.search(url)) is not None:
        raise ConfigError(
            f"{redacted(url)} holds {variable[0]}, which nobody has put a value in for",
            remedy="Write the value: variables are a shell's business, and not expanded in single quotes or a configuration file",
        )
    _check_place(url)


def _check_place(url: str) -> None:
    scheme, colon, rest = url.partition("://")
    if colon and scheme.lower() in _WITH_BUCKETS and (not rest.strip("/") or rest.startswith("/")):
        raise ConfigError(
            f"{redacted(url)} names no bucket",
            remedy=f"Write {scheme}://BUCKET/PATH; a shell variable in it may have been empty",
        )
    if not colon and url.startswith("~") and os.path.expanduser(url) == url:
        raise ConfigError(
            f"{url}: this machine knows no such user",
            remedy=f"Write the whole path, or ./{url} for that very name",
        )


def _refuse_credentials(url: str) -> None:
    if holds_credential(url):
        raise ConfigError(
            "a URL holds a credential, which isn't repeated here",
            remedy=WITHOUT_CREDENTIALS,
        )
