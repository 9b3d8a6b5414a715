"""Which error of ours does a storage client's exception become?

Rule: it names the URL, what was tried, and the next step to take, by what the exception means
(``client_errors``). Everything above this room sees only errors of ours.
"""

from __future__ import annotations

from typing import Literal

from orchestrator.errors import (
    AlreadyExists,
    ConfigError,
    OrchestratorError,
    OutputError,
    SourceError,
    StorageUnavailable,
)
from orchestrator.redaction import redacted
from orchestrator.store.objects.client_errors import DENIED_ERRNOS, Meaning, meaning

Action = Literal["read", "list", "write", "delete"]


def translate(error: BaseException, url: str, action: Action) -> OrchestratorError:
    """The error of ours for ``error``, met at ``url`` while trying to ``action``."""
    if isinstance(error, OrchestratorError):
        return error
    kind: type[ConfigError] = OutputError if action in ("write", "delete") else SourceError
    details = {"url": url, "action": action}
    match meaning(error):
        case Meaning.MISSING if isinstance(error, NotADirectoryError) and action == "write":
            return kind(
                f"can't write {url}: {one_line(error)}",
                remedy="Name a directory that isn't there yet, or an empty one",
                details=details,
            )
        case Meaning.MISSING if action == "write":
            return kind(
                f"can't write {url}: there is no such bucket or directory ({one_line(error)})",
                remedy="Check the URL and its spelling; what it names has to be made first",
                details={**details, "missing": True},
            )
        case Meaning.MISSING:
            return kind(
                f"{url} doesn't exist",
                remedy="Check the URL and its spelling",
                details={**details, "missing": True},
            )
        case Meaning.EXISTS:
            return AlreadyExists(
                f"{url} exists already",
                remedy="Another writer was first; see its holder",
                details=details,
            )
        case Meaning.DENIED:
            remedy = "Check that the credentials are there, haven't expired and allow this, for example with the store's own command"
            if isinstance(error, OSError) and error.errno in DENIED_ERRNOS:
                remedy = (
                    "Check who owns the directory and whether the file system is mounted read-only"
                )
            return kind(
                f"no permission to {action} {url}: {one_line(error)}",
                remedy=remedy,
                details=details,
            )
        case Meaning.FULL:
            return OutputError(
                f"no space left to {action} {url}: {one_line(error)}",
                remedy="Free space or raise the quota; the run goes on from its newest checkpoint",
                details={**details, "full": True},
            )
        case Meaning.UNSUPPORTED:
            return kind(
                f"the store can't {action} {url}: {one_line(error)}",
                remedy="Use another store",
                details=details,
            )
        case Meaning.INVALID:
            return kind(
                f"can't {action} {url}: {one_line(error)}",
                remedy="Check the name, the bucket's too, and the client's settings: no further try can help",
                details=details,
            )
        case Meaning.TRANSIENT | Meaning.UNKNOWN:
            return StorageUnavailable(
                f"the store didn't {action} {url}: {one_line(error)}",
                remedy="Check that the store is up and can be reached from here, then run the same command again",
                details=details,
            )


def one_line(error: BaseException) -> str:
    """Type and text of an exception, without credentials: clients quote URLs, proxies' too."""
    text = " ".join(str(error).split()) or "no text"
    return f"{type(error).__name__}: {redacted(text)[:300]}"
