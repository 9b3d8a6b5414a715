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
        grown: names of the variables of which a checkpoint may hold fewer rows than the graph has;
            the rows that it lacks are initialised, in what the run itself saved too.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    anew: frozenset[str] = frozenset()
    step: int | None = None
    grown: frozenset[str] = frozenset()

    def stored(self, key: str) -> str:
        """The key under which the checkpoint holds what the graph calls ``key``."""
        return self.renamed.get(key, key)

    def of_own(self) -> Loading:
        """How what the run itself saved is read."""
        return Loading(grown=self.grown)


AS_SAVED = Loading()
"""Every tensor under its own key."""
