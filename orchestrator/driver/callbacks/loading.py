"""Which callbacks does a run want, and how are they made?

Rule: none that wasn't asked for by name. A name is an entry point of the group
``tfresume.callbacks``, whichever package brings it; one that is unknown, or whose library isn't
installed, refuses the run before anything is started, and those that were made before it are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import EntryPoint, entry_points

from orchestrator.config import RunConfig
from orchestrator.driver.callbacks.context import GROUP, CallbackContext
from orchestrator.driver.observer import Observer
from orchestrator.driver.observer_thread import ObserverThread
from orchestrator.errors import ConfigError
from orchestrator.redaction import redacted, redacted_data


def callbacks_of(config: RunConfig, run: str) -> list[Observer]:
    """The callbacks that the configuration asks for.

    Args:
        run: the output's URL, as it may be shown.

    Raises:
        ConfigError: there is none of that name, or it can't be made.
    """
    context = CallbackContext(
        run, redacted(config.source), redacted_data(config.model_dump(mode="json"))
    )
    entries = chosen(config.callback)
    with ExitStack() as stack:
        made: list[Observer] = []
        for entry in entries:
            thread = ObserverThread(_made(entry, context), f"the callback {entry.name}")
            stack.callback(thread.close)
            made.append(thread)
        stack.pop_all()
        return made


def chosen(names: Sequence[str]) -> list[EntryPoint]:
    """The entry points of these names.

    Raises:
        ConfigError: an unknown name; says which there are.
    """
    there = {entry.name: entry for entry in entry_points(group=GROUP)}
    unknown = [name for name in names if name not in there]
    if unknown:
        raise ConfigError(
            f"--callback {unknown[0]}: no installed package has a callback of this name; there are: {', '.join(sorted(there)) or 'none'}",
            remedy=f"Install the package that brings it (an entry point of the group {GROUP}), or leave it out",
        )
    return [there[name] for name in dict.fromkeys(names)]


def _made(entry: EntryPoint, context: CallbackContext) -> Observer:
    try:
        made: Observer = entry.load()(context)
    except ImportError as error:
        raise ConfigError(
            f"--callback {entry.name}: a library that it needs isn't installed here: {error}",
            remedy="Install it where the driver runs (tfresume's extras mlflow and wandb name theirs), or leave --callback out",
        ) from error
    except Exception as error:
        raise ConfigError.from_cause(
            f"--callback {entry.name} can't begin",
            error,
            remedy="Fix what it names (its own variables, its server), or leave it out",
        ) from error
    return made
