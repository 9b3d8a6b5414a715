"""How is a place spelled, so that a job finds it from another directory and two spellings are one?

Rule: a local path becomes absolute, from where the user stands, and loses its dots and doubled
slashes; ``file://`` is a local path; a store with several names for its protocol gets one. An
object store's own path is left as it is, since there every character counts, but for slashes at its
end.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.store.objects.url_spelling import one_protocol

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:://|::)")


def one_spelling(url: str, directory: Path) -> str:
    """The URL as every command and every machine understands it.

    Args:
        directory: where the user stands.
    """
    path = url.removeprefix("file://").removeprefix("local://")
    found = _SCHEME.match(path)
    if found is None:
        return os.path.abspath(directory / path)
    scheme = found[1]
    if path.startswith(f"{scheme}::"):
        return url  # a chain: its links are the user's business
    rest = path[len(scheme) + 3 :]
    return one_protocol(f"{scheme}://{rest.rstrip('/')}")


def absolute(values: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The configuration's keys with every place in one spelling: source, output, the graph's
    ``meta``, arrays and moved files.
    """
    changed = dict(values)
    for key in ("source", "output", "meta"):
        if changed.get(key):
            changed[key] = one_spelling(str(changed[key]), directory)
    if changed.get("array"):
        changed["array"] = {
            name: _array(str(place), directory) for name, place in changed["array"].items()
        }
    if changed.get("path_map"):
        changed["path_map"] = {
            old: one_spelling(str(new), directory) for old, new in changed["path_map"].items()
        }
    return changed


def _array(place: str, directory: Path) -> str:
    url, sharp, key = place.partition("#")
    return one_spelling(url, directory) + sharp + key
