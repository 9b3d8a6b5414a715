"""Does a start look, plan, prove, find room, take the lease and begin, in this order?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import main
from orchestrator.driver.claim import Claim
from orchestrator.driver.result import RunResult, ended_before_it_began
from orchestrator.driver.signals import Door
from orchestrator.driver.startup import StartPoint
from orchestrator.store.objects.location import open_location
from orchestrator.workers.namespace import namespace_of

OUTPUT = open_location("memory://more")
NAMESPACE = namespace_of(OUTPUT.url)
ANSWER: Any = "the answer"


def config(**settings: Any) -> RunConfig:
    return parse_config({"source": "s", "output": OUTPUT.url, "until_step": 9} | settings)


class Steps:
    """What a start does, in its order; what each part was given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.record: Any = None
        self.living: list[str] = []
        self.found: Any = SimpleNamespace(name="ready")
        self.given: dict[str, tuple[Any, ...]] = {}
        self.doors: list[bool] = []
        self._door: Any = None
        patch.setattr(main, "read_run_record", self.part("read", lambda: self.record))
        patch.setattr(main, "living_workers", self.part("ask workers", lambda: self.living))
        patch.setattr(main, "prepared", self.part("prepare", lambda: self.found))
        patch.setattr(main, "check_room", self.part("room", lambda: None))
        patch.setattr(main, "begin", self.part("begin", lambda: ANSWER))
        patch.setattr(main, "tidy", self.tidied)
        patch.setattr(main, "proving", self.proving)
        patch.setattr(Claim, "take", self.taken)

    def part(self, name: str, answer: Callable[[], Any]) -> Callable[..., Any]:
        def called(*given: Any) -> Any:
            self.did(name, *given)
            return answer()

        return called

    def did(self, name: str, *given: Any) -> None:
        self.done.append(name)
        self.given[name] = given
        self.doors.append(self._door is None or self._door._is_open)

    @contextmanager
    def proving(self, *given: Any) -> Iterator[Callable[[], Any]]:
        self.did("try", *given)
        yield self.part("prove", lambda: "a proof")
        self.done.append("end the trial")

    @contextmanager
    def taken(self, *given: Any) -> Iterator[str]:
        self.did("lease", *given)
        yield "a claim"
        self.done.append("give the lease back")

    def tidied(self, claim: Callable[[], Any], *given: Any) -> None:
        self.did("tidy", *given)
        with claim():
            pass

    def resumed(self, config: RunConfig) -> RunResult:
        self._door = Door(lambda _: None)
        return main._resume(
            config, OUTPUT, self.part("connect", lambda: None), OBSERVERS, INBOX, self._door
        )


OBSERVERS: Any = SimpleNamespace(name="observers")
INBOX: Any = SimpleNamespace(name="inbox")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


FRESH = ["prepare", "try", "connect", "room", "prove", "end the trial", "lease", "begin"]
END = ["give the lease back"]


def test_first_start_asks_ray_for_nothing_before_all_is_planned(steps: Steps) -> None:
    asked = config()
    assert steps.resumed(asked) == ANSWER
    assert steps.done == ["read", *FRESH, *END]
    assert steps.given == {
        "read": (OUTPUT,),
        "prepare": (asked, OUTPUT, None),
        "try": (asked, steps.found, None),
        "connect": (),
        "room": (asked, NAMESPACE),
        "prove": (),
        "lease": (asked, OUTPUT),
        "begin": ("a claim", steps.found, None, "a proof", OBSERVERS, INBOX),
    }
    # A signal ends at once what hasn't begun; from the lease on the loop ends it in order
    assert dict(zip([*FRESH[:5], "lease", "begin"], steps.doors[1:], strict=True)) == {
        **dict.fromkeys(FRESH[:5], True),
        "lease": False,
        "begin": False,
    }


def test_later_start_looks_for_living_workers_before_it_plans(steps: Steps) -> None:
    steps.record = "a record"
    assert steps.resumed(config()) == ANSWER
    assert steps.done == ["read", "connect", "ask workers", *FRESH, *END]
    assert steps.given["ask workers"] == (NAMESPACE,)
    assert steps.given["begin"] == (
        *("a claim", steps.found, "a record", "a proof"),
        *(OBSERVERS, INBOX),
    )
    assert steps.given["try"][-1] == steps.given["prepare"][-1] == "a record"
    # Workers of a driver that died may have a state to save
    assert steps.doors[:4] == [True, False, False, True]


def test_living_workers_are_gone_on_with_without_a_plan(steps: Steps) -> None:
    steps.record, steps.living = "a record", ["w0001"]
    assert steps.resumed(config()) == ANSWER
    assert steps.done == ["read", "connect", "ask workers", "lease", "begin", *END]
    assert steps.given["begin"] == ("a claim", None, "a record", None, OBSERVERS, INBOX)
    assert steps.doors == [True, *[False] * 4]


@pytest.mark.parametrize("is_later", [False, True])
def test_run_that_has_ended_already_is_tidied_where_it_ever_began(
    steps: Steps, is_later: bool
) -> None:
    source: Any = None
    start = StartPoint(source, "aa", "m", 9, 3, 9, "a0001-g0001/m-9", (1, 1), ("a warning",))
    steps.found = start
    steps.record = "a record" if is_later else None
    asked = config()
    assert steps.resumed(asked) == ended_before_it_began(OUTPUT.shown, start)
    if is_later:
        assert steps.done[-3:] == ["tidy", "lease", "give the lease back"]
        assert steps.given["tidy"] == (OUTPUT, "a0001-g0001/m-9")
        assert steps.given["lease"] == (asked, OUTPUT)
    else:
        assert steps.done == ["read", "prepare"]
