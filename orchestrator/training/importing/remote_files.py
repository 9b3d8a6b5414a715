"""How do files that a graph names come from a store that TensorFlow can't read?

Rule: what ``--path-map`` sends to a URL is brought to this node once, for all its workers, and the
graph gets the local names before it's imported. Files of one directory come together, so that
patterns and index files beside them still fit.
"""

from __future__ import annotations

import fnmatch
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import SourceError
from orchestrator.graph.inputs.path_map import string_constants
from orchestrator.store.objects.location import FileInfo, Location, open_location
from orchestrator.store.objects.private import private_directory
from orchestrator.store.transfer.staging import stage

WILDCARDS = "*?["


def data_dir() -> Path:
    """Where this node keeps staged input files, apart from checkpoints, which come and go while
    these are being read.
    """
    return private_directory("tfresume-data")


def localize(meta: Any, urls: Sequence[str], cache_dir: Path | None = None) -> None:
    """Stage the files that ``urls`` name, and put their local paths into the constants of ``meta``,
    in place.

    Raises:
        SourceError: a file isn't there, or a pattern matches none.
        StorageUnavailable: the store doesn't answer.
    """
    if not urls:
        return
    local = stage_files(urls, cache_dir or data_dir())
    for _, tensor in string_constants(meta):
        for slot, value in enumerate(tensor.string_val):
            path = local.get(value.decode("utf-8", "replace"))
            if path is not None:
                tensor.string_val[slot] = path.encode()


def stage_files(urls: Sequence[str], cache_dir: Path) -> Mapping[str, str]:
    """URL (or URL pattern) to the local path (or pattern) of what it names."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        directory, _, _ = url.rpartition("/")
        wanted[directory].append(url)
    local: dict[str, str] = {}
    for directory, names in wanted.items():
        found = files_named(open_location(directory), [name.rpartition("/")[2] for name in names])
        entry = stage(found, cache_dir).parent
        local.update({name: str(entry / name.rpartition("/")[2]) for name in names})
    return local


def files_named(directory: Location, names: Sequence[str]) -> list[FileInfo]:
    """The files of a directory that the names or patterns say.

    Raises:
        SourceError: one of them says none.
    """
    listed = {file.name: file for file in directory.list()}
    found: dict[str, FileInfo] = {}
    for name in names:
        matching = (
            [file for file in listed if fnmatch.fnmatchcase(file, name)]
            if set(WILDCARDS) & set(name)
            else [name]
        )
        if not matching or any(file not in listed for file in matching):
            raise SourceError(
                f"{directory.shown}/{name} isn't there, and the graph's input pipeline reads it",
                remedy="Correct --path-map; `tfresume inspect` lists the file names in the graph",
            )
        found.update({file: listed[file] for file in matching})
    return [found[name] for name in sorted(found)]
