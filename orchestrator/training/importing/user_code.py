"""How is the user's Python code found, and what becomes of its errors?

Rule: whatever the user's code raises arrives as UserCodeError with the user's own traceback, so
that nobody takes it for a fault of ours or of the machine.
"""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.errors import UserCodeError
from orchestrator.training.engine.lazy_import import finish_if_taken


def load_function(reference: str) -> Any:
    """The object that ``module:function`` or ``path/file.py:function`` names.

    Raises:
        UserCodeError: it can't be imported, or isn't there.
    """
    module_name, _, attribute = reference.rpartition(":")
    try:
        module = (
            _from_file(module_name)
            if module_name.endswith(".py")
            else importlib.import_module(module_name)
        )
        finish_if_taken(module)
        return getattr(module, attribute)
    # a module that calls sys.exit() would end the worker's thread without a word
    except BaseException as error:
        raise user_error(
            error,
            f"{reference} can't be loaded",
            remedy="Write MODULE:FUNCTION or PATH.py:FUNCTION",
        ) from error


def user_error(
    error: BaseException, what: str, *, remedy: str = "Fix it and run the same command again"
) -> UserCodeError:
    """``error``, raised by the user's code while ``what`` happened."""
    return UserCodeError(
        f"{what}: {type(error).__name__}: {error}",
        remedy=remedy,
        details={"traceback": "".join(traceback.format_exception(error))},
    )


def _from_file(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} isn't a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
