"""What can be told to be wrong of a command before its source is read?

Rule: one list, which ``resume`` goes through before it starts anything and ``check`` reports as a
whole, so that ``check`` never passes what ``resume`` refuses. None of the user's code runs for it:
what a file defines is read from its text.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from orchestrator.config import RunConfig
from orchestrator.decide.last_step import last_step
from orchestrator.decide.room import crowded
from orchestrator.errors import ConfigError, PlacementError
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import WorkerGraph


def check_input(config: RunConfig) -> None:
    """Refuse an input function that can't be there.

    With a cluster of its own machines only a wrong form can be told here: the module may be there
    and not here.

    Raises:
        ConfigError: the reference is malformed, or names a file, module or function that doesn't
            exist.
    """
    if config.input is None:
        return
    module, colon, function = config.input.rpartition(":")
    if not (colon and module and function.isidentifier()):
        raise ConfigError(
            f"--input {config.input!r} isn't of the form MODULE:FUNCTION",
            remedy="Write MODULE:FUNCTION or PATH.py:FUNCTION",
        )
    if config.address is not None:
        return
    found = [Path(module)] if module.endswith(".py") else list(_places(module))
    file = next((path for path in found if path.is_file()), None)
    if file is None and not module.endswith(".py") and _is_importable(module):
        return
    if file is None:
        raise ConfigError(
            f"--input {config.input}: {module} can't be found",
            remedy="Check the name, or give the path of its .py file",
        )
    _check_defined(config.input, file, function)


def _places(module: str) -> Iterator[Path]:
    """Where the file of a module would be, found without importing its parents."""
    first, *rest = module.split(".")
    for directory in (Path.cwd(), *map(Path, sys.path)):
        yield from _files(directory / first, rest)
    # an import hook, such as an editable install's, knows places that aren't on the path
    spec = _spec(first)
    if spec is not None:
        for location in spec.submodule_search_locations or ():
            yield from _files(Path(location), rest)
        if not rest and spec.origin is not None and spec.origin.endswith(".py"):
            yield Path(spec.origin)


def _files(top: Path, rest: Iterable[str]) -> Iterator[Path]:
    place = top.joinpath(*rest)
    yield place.with_name(place.name + ".py")
    yield place / "__init__.py"


def _is_importable(module: str) -> bool:
    """Whether the module is there in another form: compiled, or its first part in an archive or
    without an ``__init__.py``.
    """
    first, _, rest = module.partition(".")
    if not rest:
        return _spec(first) is not None
    compiled = (
        path.with_suffix(suffix) for path in _places(module) for suffix in EXTENSION_SUFFIXES
    )
    return (Path.cwd() / first).is_dir() or any(path.is_file() for path in compiled)


def _spec(top_level: str) -> ModuleSpec | None:
    """How a module without a parent would be imported; nothing is run for it."""
    try:
        return find_spec(top_level)
    except (ImportError, ValueError):
        return None


def _check_defined(reference: str, file: Path, function: str) -> None:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise ConfigError.from_cause(
            f"--input {reference}: {file} isn't Python",
            error,
            remedy="Correct the place that it names",
        ) from error
    names = set(_defined(tree.body))
    if function in names or "*" in names or "__getattr__" in names:
        return
    functions = sorted(item.name for item in tree.body if isinstance(item, ast.FunctionDef))
    raise ConfigError(
        f"--input {reference}: {file} defines no {function}",
        remedy=f"It defines {', '.join(functions)}"
        if functions
        else "Define it at the file's top level",
    )


def _defined(body: Iterable[ast.AST]) -> Iterator[str]:
    """The names that a module's text binds at its top level; ``*`` where that can't be told."""
    for node in body:
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.Expr(value=ast.Call()):
                yield "*"  # globals().update(...), exec(...): whatever it does
            case _:
                yield from (
                    child.id
                    for child in ast.walk(node)
                    if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)
                )
                yield from _defined(
                    child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
                )


def check_end(config: RunConfig) -> None:
    """Raises ConfigError where no end was given."""
    last_step(config.until_step, config.steps, 0)


def check_crowd(config: RunConfig, machine_cpus: int | None = None) -> None:
    """Refuse more workers than this machine could ever serve, where it's this machine that a local
    Ray starts them on.

    Raises:
        PlacementError: says what the machine has.
    """
    if config.address is not None or config.wait:
        return
    import psutil

    cpus = machine_cpus or os.cpu_count() or 1
    workers = config.workers.largest + config.workers.standby
    if crowded(workers, config.workers.cpus, cpus):
        free = psutil.virtual_memory().available / 1e9
        raise PlacementError(
            f"{workers} workers of {config.workers.cpus:g} CPUs each are too many for this machine: it has {cpus} CPUs and {free:.1f} GB of "
            "free memory, and each worker is a process with TensorFlow in it (0.5 GB and the model)",
            remedy=f"Ask for {cpus} workers, give each less (--workers.cpus), or name a cluster with --address",
            details={"cpus": cpus, "wanted": workers},
        )


CHECKS: tuple[tuple[str, Callable[[RunConfig], None]], ...] = (
    ("input", check_input),
    ("no-end", check_end),
    ("no-room", check_crowd),
)
"""Code of the problem to what raises it."""


def refuse(config: RunConfig) -> None:
    """Raises ConfigError, with the first thing that is wrong."""
    for _, check in CHECKS:
        check(config)


def refusals(config: RunConfig) -> tuple[Problem, ...]:
    """All that ``refuse`` finds; that no end was given is a warning as long as there is no output
    either: nobody asks for a run yet.
    """
    return tuple(_found(config))


def _found(config: RunConfig) -> Iterator[Problem]:
    for code, check in CHECKS:
        try:
            check(config)
        except ConfigError as error:
            severity: Literal["error", "warning"] = (
                "warning" if code == "no-end" and not config.output else "error"
            )
            yield Problem(code, severity, error.message, error.remedy)


def saves_changed_rows(config: RunConfig, graph: WorkerGraph) -> bool:
    """Whether the run saves changed rows. Raises ConfigError where it was told to and has none."""
    if config.save_changed_rows and not graph.tables:
        raise ConfigError(
            "--save-changed-rows saves rows of tables that are divided among the workers, and none is",
            remedy="Divide some (--shard-tables NAME; `tfresume inspect` says which can be), or leave --save-changed-rows out",
        )
    return config.save_changed_rows
