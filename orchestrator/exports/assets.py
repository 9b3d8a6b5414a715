"""Which files does a SavedModel bring along?

Rule: those that fill its lookup tables, in its directory ``assets``, each under its own name; the
constants that named them in the graph are told to TensorFlow as its assets, so that whoever loads
the model gives them the place where it lies then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from orchestrator.errors import GraphRefused, SourceError
from orchestrator.graph.inputs.path_map import moved_path
from orchestrator.store.objects.location import open_location

ASSETS = "assets"
"""The directory in which TensorFlow's loader looks for them."""


def copied(
    assets: Mapping[str, str], path_map: Mapping[str, str], directory: Path
) -> dict[str, str]:
    """Copy the files into ``directory``, which is made where there are any.

    Args:
        assets: the constant's node to the file that it names.
        path_map: as in the configuration.

    Returns:
        The constant's node to the file's name in ``directory``.

    Raises:
        GraphRefused: a file isn't there.
        SourceError, StorageUnavailable: it can't be read.
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for node, path in assets.items():
        name = _name(path, taken)
        names[node] = name
        if (directory / name).exists():
            continue
        place = open_location(moved_path(path, path_map))
        try:
            data = place.read_bytes()
        except SourceError as error:
            if not error.details.get("missing"):
                raise
            raise GraphRefused(
                f"a lookup table is filled from {place.shown}, which isn't there",
                remedy="Say where the file is with --path-map OLD=NEW, or name an output before the look-up with --fetch TENSOR",
            ) from error
        directory.mkdir(exist_ok=True)
        (directory / name).write_bytes(data)
    return names


def _name(path: str, taken: dict[str, str]) -> str:
    """A name of the file's own; two files of one name are told apart by a number."""
    plain = PurePosixPath(path.rpartition("\\")[2] or path).name or "asset"
    name, number = plain, 1
    while taken.setdefault(name, path) != path:
        number += 1
        name = f"{number}-{plain}"
    return name
