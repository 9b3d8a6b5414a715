"""Are the files there that a graph's input pipelines read?

Rule: local files are looked for; a URL is contacted only where the operator named it
(``--path-map``), for what else stands in a stranger's graph is a stranger's wish. All of that
together has one deadline, and a store that doesn't answer is no proof that a file is missing.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import threading
import time
from collections.abc import Collection

from orchestrator.errors import OrchestratorError
from orchestrator.graph.inputs.path_map import is_url, lies_below
from orchestrator.store.checkpoints.verification import speaks_of_content
from orchestrator.store.objects.location import open_location

LOOK_S = 30.0
"""For all stores together; one that has never answered is given up after ten seconds anyhow."""


class FilesSeen:
    """What can be found out from this machine about the files that a graph names.

    Args:
        declared: URL prefixes that the operator named.
        within_s: deadline for all of them together, from the first question on.
    """

    def __init__(self, declared: Collection[str] = (), within_s: float = LOOK_S) -> None:
        self._declared, self._within_s = tuple(filter(is_url, declared)), within_s
        self._until_s: float | None = None
        self._listings: dict[str, frozenset[str] | OrchestratorError | str] = {}

    def missing(self, name: str) -> bool:
        """Whether a file name, pattern or URL is known to name no file."""
        if not is_url(name):
            path = name.removeprefix("file://")
            return not os.path.exists(path) and not glob.glob(path)
        listing = self._listing(name)
        if isinstance(listing, frozenset):
            return (
                not fnmatch.filter(listing, name.rpartition("/")[2])
                and name.rpartition("/")[2] not in listing
            )
        return isinstance(listing, OrchestratorError) and speaks_of_content(listing)

    def unreachable(self, name: str) -> str:
        """Why it can't be known whether a URL names a file; empty where it's known, or isn't asked."""
        listing = self._listing(name) if is_url(name) else None
        if isinstance(listing, OrchestratorError):
            return "" if speaks_of_content(listing) else listing.message
        return listing if isinstance(listing, str) else ""

    def _listing(self, url: str) -> frozenset[str] | OrchestratorError | str | None:
        """What lies in the directory of ``url``, or why that isn't known; None where nobody
        declared it.
        """
        if not lies_below(url, self._declared):
            return None
        directory = url.rpartition("/")[0]
        if directory not in self._listings:
            self._listings[directory] = self._asked(directory)
        return self._listings[directory]

    def _asked(self, directory: str) -> frozenset[str] | OrchestratorError | str:
        now = time.monotonic()
        self._until_s = now + self._within_s if self._until_s is None else self._until_s
        said: list[frozenset[str] | OrchestratorError] = []
        if now < self._until_s:
            # A daemon: a store that never answers must not keep the command from ending
            asking = threading.Thread(target=lambda: said.append(_listed(directory)), daemon=True)
            asking.start()
            asking.join(self._until_s - now)
        return said[0] if said else f"no answer within {self._within_s:g} s"


def _listed(directory: str) -> frozenset[str] | OrchestratorError:
    try:
        return frozenset(entry.name for entry in open_location(directory).list())
    except OrchestratorError as error:
        return error
