"""Which of a checkpoint's tensors does a run's first start take, and under which keys?

Rule: plain data, decided once from the flags and the graph, and followed only where a run reads its
source's checkpoint; what the run itself saved is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Loading:
    """How the source's checkpoint is read.

    Attributes:
        renamed: a graph's key to the key under which the checkpoint holds it.
        anew: names of the variables that are initialised, whatever the checkpoint holds.
        step: the global step to begin at, None for the checkpoint's.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    anew: frozenset[str] = frozenset()
    step: int | None = None

    def stored(self, key: str) -> str:
        """The key under which the checkpoint holds what the graph calls ``key``."""
        return self.renamed.get(key, key)


AS_SAVED = Loading()
"""Every tensor under its own key."""
