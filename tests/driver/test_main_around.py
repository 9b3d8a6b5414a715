"""Is whatever a start opens closed again, are its observers those that were asked for, and is room
looked for before anything is placed?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.decide.events import StopAsked, StopCause
from orchestrator.driver import main
from orchestrator.driver.inbox import Inbox
from orchestrator.driver.main import check_room, own_observers
from orchestrator.driver.metrics import RayMetrics
from orchestrator.driver.notifier import Notifier
from orchestrator.driver.observer import Observer
from orchestrator.driver.result import RunResult
from orchestrator.driver.tensorboard_events import EventWriter
from orchestrator.errors import ConfigError, PlacementError
from orchestrator.store.objects.location import open_location

OUTPUT = open_location("memory://more")
ANSWER: Any = "the answer"


def config(**settings: Any) -> RunConfig:
    return parse_config({"source": "s", "output": OUTPUT.url, "until_step": 9} | settings)


class Link:
    """Ray, as far as it matters here."""

    def __init__(self, done: list[str], *, starts_a_ray: bool = False) -> None:
        self.done, self.starts_a_ray = done, starts_a_ray

    def wait(self) -> None:
        self.done.append("wait for Ray")

    def close(self) -> None:
        self.done.append("close Ray")


class Onlooker:
    """An observer that is told of the end."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def event(self, event: object) -> None:
        self.done.append(f"told {event}")

    def progress(self, progress: object) -> None:
        """Nothing is made of it."""

    def close(self) -> None:
        self.done.append("close the observer")


class Opened:
    """What is done around a start."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.own = Onlooker(self.done)
        self.fails: Exception | None = None
        self.starts_a_ray = False
        self.given: tuple[Any, ...] = ()
        patch.setattr(main, "own_observers", self.observers)
        patch.setattr(main, "_resume", self.resumed)
        patch.setattr(main, "RayLink", self.linked)
        patch.setattr(
            main, "check_crowd", lambda config: self.done.append(f"crowd of {config.source}")
        )

    def observers(self, config: RunConfig, output: Any) -> list[Any]:
        self.done.append(f"observe {config.source} {output.shown}")
        return [self.own]

    def linked(self, config: RunConfig) -> Link:
        self.done.append(f"connect for {config.source}")
        return Link(self.done, starts_a_ray=self.starts_a_ray)

    def resumed(self, *given: Any) -> RunResult:
        self.given = given
        _, _, connected, observers, _, _ = given
        connected()
        observers.event("the beginning")
        if self.fails is not None:
            raise self.fails
        return ANSWER


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    return Opened(monkeypatch)


LOOKED = "observe s memory://more"


@pytest.mark.parametrize("starts_a_ray", [False, True])
def test_link_of_its_own_is_made_last_and_closed_first(opened: Opened, starts_a_ray: bool) -> None:
    opened.starts_a_ray = starts_a_ray
    asked = config()
    assert main.resume(asked) == ANSWER
    assert opened.done == [
        *(LOOKED, "connect for s", *(["crowd of s"] if starts_a_ray else [])),
        *("wait for Ray", "told the beginning", "close Ray", "close the observer"),
    ]
    assert opened.given[:2] == (asked, OUTPUT)


def test_link_that_is_given_is_closed_when_all_else_is(opened: Opened) -> None:
    opened.fails = ConfigError("no")
    link: Any = Link(opened.done)
    with pytest.raises(ConfigError, match="no"):
        main.resume(config(), link=link)
    assert opened.done == [
        *(LOOKED, "wait for Ray", "told the beginning", "close the observer", "close Ray")
    ]


@pytest.mark.parametrize("many", [0, 1, 2])
def test_observers_of_the_caller_are_told_beside_ones_own(
    opened: Opened, many: int, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[list[str]] = [[], []]
    theirs: list[Any] = [Onlooker(each) for each in told][:many]
    link: Any = Link(opened.done)
    given: Any = {0: None, 1: theirs[0] if theirs else None, 2: theirs}[many]
    main.resume(config(), observer=given, link=link)
    assert [each for each in told if each] == [["told the beginning", "close the observer"]] * many
    assert opened.done.count("told the beginning") == 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"output": ""}, "--output is missing"), ({"input": "m"}, "isn't of the form")],
)
def test_command_that_is_wrong_by_itself_opens_nothing_and_closes_the_link(
    opened: Opened, settings: dict[str, Any], said: str
) -> None:
    link: Any = Link(opened.done)
    with pytest.raises(ConfigError, match=said) as refused:
        main.resume(config(**settings), link=link)
    assert opened.done == ["close Ray"]
    if not settings.get("input"):
        assert refused.value.message == said
        assert refused.value.remedy == "Name the directory URL for the checkpoints to come"


def test_signals_are_the_runs_own_again_once_ray_is_connected(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    tells: list[Any] = []

    @contextmanager
    def signals_to(tell: Any) -> Iterator[Callable[[], None]]:
        tells.append(tell)
        yield lambda: opened.done.append("take the signals back")

    monkeypatch.setattr(main, "signals_to", signals_to)
    main.resume(config())
    at = opened.done.index("wait for Ray")
    assert opened.done[at + 1] == "take the signals back"
    inbox, door = opened.given[-2:]
    assert tells == [door.tell]
    assert isinstance(inbox, Inbox)
    door.close()
    wish = StopAsked(StopCause.SIGTERM, 25.0)
    door.tell(wish)
    assert inbox.get(0.0) == wish


# -- who watches, and whether there is room


@pytest.mark.parametrize("curves", [False, True])
def test_run_is_watched_by_metrics_curves_and_who_is_to_be_notified(
    monkeypatch: pytest.MonkeyPatch, curves: bool
) -> None:
    def made(asked: RunConfig, run: str) -> list[Any]:
        return [("callbacks", asked, run)]

    monkeypatch.setenv("HOOK", "https://example.org/hook")
    monkeypatch.setattr(main, "callbacks_of", made)
    asked = config(tensorboard=curves, notify=["env:HOOK"])
    metrics, *more, notified, callbacks = own_observers(asked, OUTPUT)
    assert isinstance(metrics, RayMetrics)
    assert metrics._run == "memory://more"
    assert [type(each) for each in more] == [EventWriter] * curves
    notifier: Any = notified
    assert isinstance(notifier._observer, Notifier)
    assert (notifier._observer._urls, notifier._observer._run) == (
        ("https://example.org/hook",),
        "memory://more",
    )
    expected: Any = ("callbacks", asked, "memory://more")
    assert callbacks == expected
    watches: list[Observer] = [metrics, *more]
    for each in watches:
        getattr(each, "close", lambda: None)()


FREE = [{"CPU": 3.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("settings", "places", "said"),
    [
        ({"workers": 2}, 2, ""),
        ({"workers": 2}, 3, ""),
        ({"workers": 2, "wait": True}, 0, ""),
        ({"workers": {"count": 2, "max": 9, "standby": 3}}, 2, ""),
        ({"workers": 2}, 1, "room for 1 of 2 workers of 1 CPUs each; free: node 1: 3 CPUs, 1 GPUs"),
        (
            {"workers": {"count": 2, "cpus": 0.5, "gpus": 0.25}},
            0,
            "room for 0 of 2 workers of 0.5 CPUs and 0.25 GPUs each; free: node 1: 3 CPUs, 1 GPUs",
        ),
    ],
)
def test_more_workers_than_there_is_room_for_are_refused_with_what_is_free(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], places: int, said: str
) -> None:
    asked = config(**settings)

    def room(workers: Any, *, namespace: str) -> int:
        assert (workers, namespace) == (asked.workers, "its own")
        return places

    monkeypatch.setattr(main, "room", room)
    monkeypatch.setattr(main, "free_resources", lambda space: FREE if space == "its own" else [])
    if not said:
        check_room(asked, "its own")
        return
    with pytest.raises(PlacementError) as refused:
        check_room(asked, "its own")
    assert refused.value.message == f"the cluster has {said}"
    assert refused.value.remedy == (
        "Ask for fewer or smaller workers, or wait for room with --wait"
    )
    assert refused.value.details == {"room": places, "wanted": 2}
