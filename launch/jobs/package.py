"""What of the user's own code has to travel with a job?

Rule: what the configuration names and this directory holds is shipped, under names that hold there
too: the input function's file or module, modules for ``py_func`` and ``import_modules``, operation
libraries. What isn't found here is expected in the cluster's image.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from launch.jobs.plan import CONFIG_FILE, JobPlan
from orchestrator.errors import ConfigError

LARGEST_BYTES = 100 * 1024 * 1024
"""Ray's own limit for a working directory; beyond it the job server refuses with a less helpful
message.
"""


def collected(
    run: Mapping[str, Any], directory: Path, extra: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration's keys with paths as they are in the working directory, and what to ship
    (name there -> path here).

    Args:
        run: the keys of the configuration.
        directory: where the user stands; relative paths and modules are looked up here.
        extra: more files or directories to ship.

    Raises:
        ConfigError: a named file that isn't there, two files of one name, or more than 100 MB in
            all.
    """
    files: dict[str, str] = {}
    changed = dict(run)
    if run.get("input"):
        changed["input"] = _shipped(str(run["input"]), directory, files)
    if run.get("py_func"):
        changed["py_func"] = {
            token: _shipped(str(target), directory, files)
            for token, target in run["py_func"].items()
        }
    for module in run.get("import_modules", ()):
        _ship_module(str(module), directory, files)
    if run.get("load_op_library"):
        changed["load_op_library"] = [
            _library(str(path), directory, files) for path in run["load_op_library"]
        ]
    for path in extra:
        _ship(directory / path, files, flag="--ship")
    _check_size(files)
    return changed, files


def _shipped(target: str, directory: Path, files: dict[str, str]) -> str:
    """``path/file.py:function`` or ``module:function``, as it reads in the working directory."""
    place, colon, function = target.rpartition(":")
    if not colon:
        return target
    if place.endswith(".py"):
        return f"{_ship(directory / place, files, flag=target)}:{function}"
    _ship_module(place, directory, files)
    return target


def _library(path: str, directory: Path, files: dict[str, str]) -> str:
    local = directory / path
    return _ship(local, files, flag="--load-op-library") if local.is_file() else path


def _ship(path: Path, files: dict[str, str], *, flag: str) -> str:
    resolved = path.resolve()
    if not resolved.exists():
        raise ConfigError(
            f"{flag}: there is no {resolved}",
            remedy="Check the path; it is looked up from where you stand",
        )
    if (
        files.setdefault(resolved.name, str(resolved)) != str(resolved)
        or resolved.name == CONFIG_FILE
    ):
        raise ConfigError(
            f"two things to ship are called {resolved.name}", remedy="Rename one of them"
        )
    return resolved.name


def _ship_module(module: str, directory: Path, files: dict[str, str]) -> None:
    """Ship a module's top-level file or package, if it lives below ``directory``."""
    top = module.partition(".")[0]
    with _first_on_path(directory):
        spec = importlib.util.find_spec(top)
    if spec is None:
        return
    found = (
        Path(spec.submodule_search_locations[0])
        if spec.submodule_search_locations
        else Path(spec.origin or "")
    )
    inside = found.resolve().is_relative_to(directory.resolve())
    if inside and not {"site-packages", "dist-packages"} & set(found.parts):
        _ship(found, files, flag=module)


@contextmanager
def _first_on_path(directory: Path) -> Iterator[None]:
    sys.path.insert(0, str(directory))
    try:
        importlib.invalidate_caches()
        yield
    finally:
        sys.path.remove(str(directory))


def _check_size(files: Mapping[str, str]) -> None:
    total = 0
    for path in map(Path, files.values()):
        total += (
            sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
            if path.is_dir()
            else path.stat().st_size
        )
    if total > LARGEST_BYTES:
        raise ConfigError(
            f"the files to ship come to {total / 1e6:.0f} MB, and a job takes {LARGEST_BYTES / 1e6:.0f}",
            remedy="Put data into the bucket and give its URL; ship code alone",
        )


@contextmanager
def working_directory(plan: JobPlan) -> Iterator[Path]:
    """A temporary directory with the plan's configuration file and everything it ships."""
    with tempfile.TemporaryDirectory(prefix="tfresume-job-") as made:
        directory = Path(made)
        (directory / CONFIG_FILE).write_text(
            yaml.safe_dump(dict(plan.run), sort_keys=False), encoding="utf-8"
        )
        for name, path in plan.files.items():
            if Path(path).is_dir():
                shutil.copytree(
                    path,
                    directory / name,
                    ignore=shutil.ignore_patterns("__pycache__", ".git", ".venv"),
                )
            else:
                shutil.copy2(path, directory / name)
        yield directory
