"""Which callbacks does a run want, and what is said where one can't be made?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver.callbacks import loading
from orchestrator.driver.callbacks.context import GROUP, CallbackContext
from orchestrator.driver.callbacks.loading import callbacks_of, chosen
from orchestrator.driver.observer import RunProgress
from orchestrator.driver.observer_thread import ObserverThread
from orchestrator.errors import ConfigError


class Failing:
    """A callback that raises at its first event."""

    contexts: list[CallbackContext] = []  # noqa: RUF012 - each test has its own

    def __init__(self, context: CallbackContext) -> None:
        self.contexts.append(context)

    def event(self, event: Mapping[str, Any]) -> None:
        raise RuntimeError("the tracker is down")

    def progress(self, progress: RunProgress) -> None: ...


def absent(context: CallbackContext) -> Any:
    raise ImportError("No module named 'tracker'")


def down(context: CallbackContext) -> Any:
    raise OSError("no route to the tracker")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry points as installed packages would bring them."""
    made = {"failing": Failing, "absent": absent, "down": down}
    found = [EntryPoint(name, f"{__name__}:{name}", GROUP) for name in made]
    monkeypatch.setattr(loading, "entry_points", lambda group: found if group == GROUP else [])
    monkeypatch.setattr(EntryPoint, "load", lambda entry: made[entry.name])
    monkeypatch.setattr(Failing, "contexts", [])


REFUSED = {
    "nobodys": (
        "--callback nobodys: no installed package has a callback of this name; there are: absent, down, failing",
        f"Install the package that brings it (an entry point of the group {GROUP}), or leave it out",
    ),
    "absent": (
        "--callback absent: a library that it needs isn't installed here: No module named 'tracker'",
        "Install it where the driver runs (tfresume's extras mlflow and wandb name theirs), or leave --callback out",
    ),
    "down": (
        "--callback down can't begin: OSError: no route to the tracker",
        "Fix what it names (its own variables, its server), or leave it out",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_callback_that_cannot_be_made_refuses_the_run_with_the_way_on(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        callbacks_of(parse_config({"source": "s", "callback": ["failing", name]}), "r")
    assert (raised.value.message, raised.value.remedy) == REFUSED[name]


def test_callback_where_no_package_brings_any_is_refused_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "entry_points", lambda group: [])
    with pytest.raises(ConfigError, match=r"a callback of this name; there are: none\."):
        chosen(["failing"])


def test_callback_that_is_named_twice_is_made_once_and_all_in_their_order() -> None:
    asked = chosen(["failing", "absent", "failing"])
    assert [entry.name for entry in asked] == ["failing", "absent"]


def test_callback_that_is_dropped_is_called_by_its_name_and_knows_no_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = "https://ann:secret@host/run"
    config = RunConfig.model_validate({"source": url, "callback": ["failing"], "save_secs": 60})
    (thread,) = callbacks_of(config, "gs://b/more")
    assert isinstance(thread, ObserverThread)
    with caplog.at_level(logging.WARNING, "tfresume"):
        thread.event({"event": "attempt"})
        thread.close(60)
    assert "the callback failing is dropped since it failed" in caplog.text
    (context,) = Failing.contexts
    assert (context.run, context.config["save_secs"]) == ("gs://b/more", 60.0)
    assert "secret" not in context.source + str(context.config)
    assert context.source == context.config["source"]
    assert context.source.endswith("host/run")
