"""Which versions does this installation consist of?

Rule: as the installed packages' metadata tells them; nothing is imported for it, so that it's told
also where TensorFlow or Ray can't be imported.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

_DISTRIBUTION = "tfresume"
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def versions_text() -> str:
    """What ``--version`` prints: the project's version in the first line, then Python's and each
    dependency's, sorted, one a line.
    """
    below = {"python": platform.python_version(), **dict(sorted(_dependencies()))}
    width = max(map(len, below))
    rows = [f"  {name:<{width}} {number}" for name, number in below.items()]
    return "\n".join([f"{_DISTRIBUTION} {version(_DISTRIBUTION)}", *rows])


def _dependencies() -> Iterator[tuple[str, str]]:
    """Name and version of what the project asks for, and of the extras' packages that are here."""
    for requirement in requires(_DISTRIBUTION) or []:
        found = _NAME.match(requirement)
        of_development = re.search(r"extra == ['\"](?:dev|bench)['\"]", requirement)
        if found is None or of_development:
            continue
        name = found[0]
        try:
            yield name, version(name)
        except PackageNotFoundError:
            if "extra ==" not in requirement:
                yield name, "not installed"
