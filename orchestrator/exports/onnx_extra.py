"""Is what a format takes installed here?

Rule: asked before anything is read, without importing it; whether the versions go together shows
when they're imported, in the process that converts.
"""

from __future__ import annotations

from importlib.util import find_spec

from orchestrator.errors import ConfigError

ONNX = ("tf2onnx", "onnx", "onnxruntime")
"""What converts, what it's made of, and what runs the result for the check."""
ELSEWHERE = (
    "python -m tf2onnx.convert --graphdef frozen.pb --inputs X:0 --outputs Y:0 --output model.onnx"
)


def require_installed() -> None:
    """Raises ConfigError: ONNX models can't be made or checked here."""
    missing = [name for name in ONNX if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--to onnx takes {', '.join(missing)}, which isn't installed",
            remedy=f"Install the extra onnx (`pip install tf2onnx onnxruntime`), or export --to frozen and convert it elsewhere: {ELSEWHERE}",
            details={"missing": missing},
        )
