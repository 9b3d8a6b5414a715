"""How does the user's own code get into the Pods?

Rule: what the configuration names and this directory holds travels as a ConfigMap, mounted in the
driver's and the workers' Pods and on their import path. That serves some files of text; whole
packages, libraries and more than a ConfigMap takes need an image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from launch.jobs.package import collected
from launch.render.pods import CODE_PATH
from orchestrator.errors import ConfigError

LARGEST_BYTES = 900_000
"""Kubernetes takes 1 MiB for an object, with its names and labels."""
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_BUILD = "Build an image that has it: docs/kubernetes.md tells how"


def with_code(
    run: Mapping[str, Any], directory: Path, held: str | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration's keys with paths as they are in the Pods, and the files: name -> text.

    Args:
        directory: where the user stands.
        held: the path at which the Pods mount a volume; files below it are there already.

    Raises:
        ConfigError: a named file that isn't there, a package, a library, or more than a ConfigMap
            holds.
    """
    there = {key: run[key] for key in ("input",) if _lies_below(run.get(key), held)}
    rest = {key: value for key, value in run.items() if key not in there}
    changed, files = collected(rest, directory)
    texts = {name: _text(name, Path(path)) for name, path in files.items()}
    size = sum(len(text.encode()) for text in texts.values())
    if size > LARGEST_BYTES:
        raise ConfigError(
            f"the code to ship comes to {size} bytes, and a ConfigMap takes {LARGEST_BYTES}",
            remedy=_BUILD,
        )
    if changed.get("input"):
        changed["input"] = _in_pods(str(changed["input"]), texts)
    if changed.get("py_func"):
        changed["py_func"] = {
            token: _in_pods(str(target), texts) for token, target in changed["py_func"].items()
        }
    return {**changed, **there}, texts


def _lies_below(target: object, held: str | None) -> bool:
    place = PurePosixPath(str(target or "").rpartition(":")[0])
    return held is not None and place.is_relative_to(held) and ".." not in place.parts


def _in_pods(target: str, texts: Mapping[str, str]) -> str:
    place, _, function = target.rpartition(":")
    return f"{CODE_PATH}/{place}:{function}" if place in texts else target


def _text(name: str, path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"{name} is a package, and a ConfigMap holds files", remedy=_BUILD)
    if not _KEY.fullmatch(name):
        raise ConfigError(
            f"{name!r} can't be a ConfigMap's key",
            remedy="Rename the file: letters, digits, dots, dashes and underscores alone",
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError.from_cause(f"{name} isn't text", error, remedy=_BUILD) from error
