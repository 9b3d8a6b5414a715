"""How does the user's own code get into the Pods?

Rule: what the configuration names and this directory holds travels as a ConfigMap, mounted in the
driver's and the workers' Pods and on their import path. That serves some files of text; whole
packages, libraries and more than a ConfigMap takes need an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.jobs.package import collected
from launch.render.pods import CODE_PATH
from orchestrator.errors import ConfigError

LARGEST_BYTES = 900_000
"""Kubernetes takes 1 MiB for an object, with its names and labels."""
_BUILD = "Build an image that has it: docs/kubernetes.md tells how"


def with_code(run: Mapping[str, Any], directory: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration's keys with paths as they are in the Pods, and the files: name -> text.

    Raises:
        ConfigError: a named file that isn't there, a package, a library, or more than a ConfigMap
            holds.
    """
    changed, files = collected(run, directory)
    texts = {name: _text(name, Path(path)) for name, path in files.items()}
    size = sum(len(text.encode()) for text in texts.values())
    if size > LARGEST_BYTES:
        raise ConfigError(
            f"the code to ship comes to {size} bytes, and a ConfigMap takes {LARGEST_BYTES}",
            remedy=_BUILD,
        )
    if changed.get("input"):
        changed["input"] = _there(str(changed["input"]), texts)
    if changed.get("py_func"):
        changed["py_func"] = {
            token: _there(str(target), texts) for token, target in changed["py_func"].items()
        }
    return changed, texts


def _there(target: str, texts: Mapping[str, str]) -> str:
    place, _, function = target.rpartition(":")
    return f"{CODE_PATH}/{place}:{function}" if place in texts else target


def _text(name: str, path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"{name} is a package, and a ConfigMap holds files", remedy=_BUILD)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError.from_cause(f"{name} isn't text", error, remedy=_BUILD) from error
