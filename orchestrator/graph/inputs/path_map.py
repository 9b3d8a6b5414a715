"""Which file names inside a graph have moved?

Rule: ``--path-map OLD=NEW`` replaces the prefix OLD of every string constant that begins with it,
in the graph and in every function body, the longest OLD first. Names of assets are constants too. A
NEW that is a URL stays in the graph as it is: each node stages what it names just before it imports
the graph (``training.importing.remote_files``).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.library import every_node, label
from orchestrator.graph.problem import Problem


@dataclass(frozen=True)
class MovedPath:
    """One file name that was replaced.

    Attributes:
        node: the constant, and its function where it stands in one.
    """

    node: str
    old: str
    new: str


def remap_paths(meta: MetaGraphDef, path_map: Mapping[str, str]) -> tuple[MovedPath, ...]:
    """Replace the prefixes of ``path_map`` in ``meta``, in place; linear in the graph's size."""
    if not path_map:
        return ()
    moved: list[MovedPath] = []
    for said, tensor in string_constants(meta):
        for slot, value in enumerate(tensor.string_val):
            old = value.decode("utf-8", "replace")
            new = moved_path(old, path_map)
            if any(old.startswith(prefix) for prefix in path_map):
                tensor.string_val[slot] = new.encode()
                moved.append(MovedPath(said, old, new))
    return tuple(moved)


def moved_path(path: str, path_map: Mapping[str, str]) -> str:
    """Where a file is by now; where it was if none of the prefixes fits."""
    # Of ``/data=A`` and ``/data/eval=B`` the second is meant where both fit
    fitting = [prefix for prefix in path_map if path.startswith(prefix)]
    if not fitting:
        return path
    prefix = max(fitting, key=len)
    return path_map[prefix] + path[len(prefix) :]


def string_constants(meta: MetaGraphDef) -> Iterator[tuple[str, TensorProto]]:
    """The string tensors of all constants, to be changed in place, with the names of their nodes."""
    for function, node in every_node(meta.graph_def):
        if node.op == "Const" and "value" in node.attr:
            tensor = attribute(node, "value").tensor
            if tensor.string_val:
                yield label(function, node.name), tensor


def unused_prefixes(
    path_map: Mapping[str, str], moved: tuple[MovedPath, ...]
) -> tuple[Problem, ...]:
    """A warning for every prefix that no file name of the graph begins with: mistyped, most likely."""
    return tuple(
        Problem(
            "path-map-unused",
            "warning",
            f"--path-map {old}={new} changed nothing: no file name in the graph begins with {old}",
            "`tfresume inspect` lists the file names of the graph's input pipelines",
        )
        for old, new in path_map.items()
        if not any(path.old.startswith(old) for path in moved)
    )


def remote_paths(path_map: Mapping[str, str], meta: MetaGraphDef) -> tuple[str, ...]:
    """The file names of ``meta``, already replaced, that stand below a URL of ``path_map``; each
    once.
    """
    urls = tuple(new for new in path_map.values() if is_url(new))
    if not urls:
        return ()
    values = (
        value.decode("utf-8", "replace")
        for _, tensor in string_constants(meta)
        for value in tensor.string_val
    )
    return tuple(dict.fromkeys(value for value in values if value.startswith(urls)))


def lies_below(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a file name begins with one of ``prefixes`` also when every ``..`` in it is followed;
    a URL with one never does.
    """
    # A store's client may decode ``%2e%2e``, or take a backslash for a slash
    if is_url(name):
        climbs = ".." in unquote(name).replace("\\", "/").split("/")
        return not climbs and name.startswith(tuple(filter(is_url, prefixes)))
    plain = _plain(name)
    return any(
        plain.startswith(_plain(prefix)) if prefix else _is_inside(plain)
        for prefix in prefixes
        if not is_url(prefix)
    )


def _plain(path: str) -> str:
    """The path without ``..``, doubled slashes and ``file://``; a slash at its end stays."""
    bare = path.removeprefix("file://")
    plain = posixpath.normpath(bare)
    end = "/" if bare.endswith("/") and bare.strip("/") else ""
    return (f"/{plain.lstrip('/')}" if bare.startswith("/") else plain) + end


def _is_inside(path: str) -> bool:
    return not path.startswith(("/", "../")) and path != ".."


def is_url(name: str) -> bool:
    """Whether a file name names a store that TensorFlow can't read by itself."""
    return "://" in name and not name.startswith("file://")
