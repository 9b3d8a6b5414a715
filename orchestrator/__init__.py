"""Continue TensorFlow 1 training on a Ray cluster: ``from orchestrator import resume``.

Rule: importing this package imports neither Ray nor TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.driver.edit_library import edit, outputs
    from orchestrator.driver.library import evaluate, follow, infer, resume
    from orchestrator.exports.export import export
    from orchestrator.exports.frozen import export_graph
    from orchestrator.exports.salvage import salvage

__all__ = [
    "edit",
    "evaluate",
    "export",
    "export_graph",
    "follow",
    "infer",
    "outputs",
    "resume",
    "salvage",
]

_MODULES = {
    "edit": "orchestrator.driver.edit_library",
    "outputs": "orchestrator.driver.edit_library",
    "resume": "orchestrator.driver.library",
    "evaluate": "orchestrator.driver.library",
    "follow": "orchestrator.driver.library",
    "infer": "orchestrator.driver.library",
    "export": "orchestrator.exports.export",
    "export_graph": "orchestrator.exports.frozen",
    "salvage": "orchestrator.exports.salvage",
}
"""Where each call stands; imported when it's asked for."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
