"""Continue TensorFlow 1 training on a Ray cluster: ``from orchestrator import resume``.

Rule: importing this package imports neither Ray nor TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.driver.library import resume

__all__ = ["resume"]


def __getattr__(name: str) -> Any:
    if name == "resume":
        from orchestrator.driver.library import resume

        return resume
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
