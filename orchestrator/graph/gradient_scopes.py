"""Which nodes did ``tf.gradients`` make?

Rule: those under a name scope called ``gradients`` or ``gradients_N``, wherever in the name it stands. It's a convention of
TensorFlow's and not a law, so whoever asks has to cope with the answer "none".
"""

from __future__ import annotations

import re

_SCOPE = re.compile(r"(?:^|/)gradients(?:_\d+)?(?=/)")


def gradient_scope_of(name: str) -> str | None:
    """The outermost gradient scope that a node stands in (``tower_0/gradients``), None outside of all."""
    if "gradients" not in name:
        return None
    found = _SCOPE.search(name)
    return name[: found.end()] if found else None
