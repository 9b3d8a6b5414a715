"""Which nodes did ``tf.gradients`` make?

Rule: it names what belongs to the operation ``F`` ``SCOPE/F_grad/…``, whatever the scope is called;
a scope under which that can be seen for a node ``F`` of the graph is its own, and a scope that
merely bears its name (an author's ``name_scope("gradients")`` around clipping) isn't. One such name
alone may be an author's too (``train/loss_grad``): then the scope needs the usual name, or the ones
that every backward pass begins with. A graph in which no scope proves itself goes by the usual name,
``gradients`` or ``gradients_N``. Names are a convention of TensorFlow's and no law, so whoever asks
has to cope with the answer "none".
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator

_USUAL = re.compile(r"(?:^|/)gradients(?:_\d+)?(?=/)")
_OF_ONE = "_grad/"
_BEGINNINGS = ("Fill", "ones", "ones_like", "OnesLike", "grad_ys_0", "grad_ys")


class GradientScopes:
    """The gradient scopes of one graph."""

    def __init__(self, names: Iterable[str], nodes: Container[str]) -> None:
        self._proven = proven_scopes(names, nodes)
        self._by_directory: dict[str, str | None] = {}

    def of(self, name: str) -> str | None:
        """The outermost gradient scope that a node stands in (``tower_0/gradients``), None outside
        of all.
        """
        if not self._proven:
            found = _USUAL.search(name) if "gradients" in name else None
            return name[: found.end()] if found else None
        directory = name.rpartition("/")[0]
        if directory not in self._by_directory:
            around = (prefix for prefix in _prefixes(name) if prefix in self._proven)
            self._by_directory[directory] = next(around, None)
        return self._by_directory[directory]


def proven_scopes(names: Iterable[str], nodes: Container[str]) -> frozenset[str]:
    """The scopes among ``names`` in which the gradients of some of ``nodes`` are computed; linear."""
    found: dict[str, int] = {}
    seen: set[str] = set()
    for name in names:
        end = name.find(_OF_ONE)
        while end >= 0:
            if name[:end] not in seen:
                seen.add(name[:end])
                for scope in _scope_around(name[:end], nodes):
                    found[scope] = found.get(scope, 0) + 1
            end = name.find(_OF_ONE, end + 1)
    return frozenset(scope for scope, count in found.items() if count > 1 or _begins(scope, nodes))


def _begins(scope: str, nodes: Container[str]) -> bool:
    return bool(_USUAL.search(f"{scope}/")) or any(
        f"{scope}/{beginning}" in nodes for beginning in _BEGINNINGS
    )


def _scope_around(path: str, nodes: Container[str]) -> list[str]:
    """The shortest scope of which the rest of ``path`` is a node; beside the scope too, where all
    was imported under a prefix.
    """
    for scope in _prefixes(path):
        differentiated = path[len(scope) + 1 :]
        beside = (f"{prefix}/{differentiated}" for prefix in _prefixes(scope))
        if differentiated in nodes or any(name in nodes for name in beside):
            return [scope]
    return []


def _prefixes(path: str) -> Iterator[str]:
    """The scopes around a name, outermost first."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)
