"""How do two writers agree on who was first?

Rule: an object that may exist once is created with the store's own exclusive create, whole, and
never written again. Its body holds something that only its writer could have written, so that a
writer whose reply was lost finds out by reading that it had won.

What was tried, store by store: conditional puts hold on gs, s3 and az through
``pipe_file(mode="create")``; on local disks that call lets up to 5 of 8 writers win, ``link`` lets
one. Any other store gets look-then-write, and a warning that says what that can lose.
"""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

from orchestrator.errors import AlreadyExists, OrchestratorError
from orchestrator.store.objects import local_files
from orchestrator.store.objects.client_errors import Meaning, meaning
from orchestrator.store.objects.failures import translate
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.requests import retried

CONDITIONAL = frozenset({"gs", "gcs", "s3", "s3a", "abfs", "abfss", "az"})
_in_this_process = threading.Lock()


def create_once(location: Location, data: bytes) -> None:
    """Creates a file that nobody has created yet.

    Args:
        data: not empty, and unlike what any other writer would write there (it holds a writer's
            token).

    Raises:
        AlreadyExists: someone else's bytes are there. Our own bytes there (a lost reply, a retry)
            count as success.
        OutputError, StorageUnavailable: it's unknown whether the file exists now; calling again
            with the same bytes tells.
    """
    if not data:
        raise ValueError("create_once needs bytes: s3fs doesn't create empty files exclusively")
    try:
        retried(lambda: _create(location, data), location.attempts, 3 * location.deadline_s)
    except Exception as error:
        if meaning(error) is not Meaning.EXISTS:
            raise translate(error, location.shown, "write") from error
        if location.read_if_exists() != data:
            raise AlreadyExists(
                f"{location.shown} exists already, written by someone else",
                remedy="Another driver works on this output; see `tfresume status` for its holder",
                details={"url": location.shown},
            ) from error


def _create(location: Location, data: bytes) -> None:
    if location.is_local:
        local_files.create_exclusively(Path(location.path), data)
    elif location.protocol in CONDITIONAL:
        location.once("pipe_file", location.path, data, mode="create")
    else:
        # The lock makes the memory store exact; between processes this is look-then-write
        with _in_this_process:
            if location.once("exists", location.path):
                raise FileExistsError(location.path)
            location.once("pipe_file", location.path, data)


def weaker_promise(directory: Location) -> str:
    """What to warn of when a store can't create exclusively; empty where it can.

    Tries it: many S3-compatible stores accept the condition and ignore it. Costs three requests and
    leaves nothing behind.

    Raises:
        OutputError, StorageUnavailable: nothing can be written there at all.
    """
    if directory.is_local or directory.protocol == "memory":
        return ""
    if directory.protocol not in CONDITIONAL:
        return _warning(directory, "has no exclusive create")
    probe = directory.child("_tfresume", f"probe-{uuid.uuid4().hex}").hurried(
        directory.deadline_s, 1
    )
    create_once(probe, b"first")
    try:
        create_once(probe, b"second")
    except AlreadyExists:
        return ""
    except OrchestratorError as error:
        return _warning(
            directory, f"didn't answer whether it creates exclusively ({error.message})"
        )
    finally:
        probe.delete()
    return _warning(directory, "accepts exclusive creates but doesn't enforce them")


def _warning(directory: Location, what: str) -> str:
    return (
        f"{directory.shown}: this store {what}. Two drivers that start on this output within the same second could both believe "
        "that they hold it; start only one at a time. Checkpoints stay verified either way"
    )
