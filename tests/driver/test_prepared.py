"""What of a start is looked at, and what is taken from an earlier look?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.driver import beginning
from orchestrator.driver.beginning import Ready, prepared, refuse_others_workers
from orchestrator.errors import ConfigError
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import RunRecord

CONFIG: Any = SimpleNamespace(name="config")
OUTPUT: Any = SimpleNamespace(name="output")
RECORD: Any = SimpleNamespace(name="record")


def start(**about: Any) -> Any:
    values = {"fingerprint": "aa", "own_label": "a/m-5", "parent": (1, 1), "step": 5, "until": 9}
    return SimpleNamespace(**{**values, **about})


class Looks:
    """What a start finds, and how each part of it was asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.found: Any = start()
        self.counted: Any = None
        self.asked: dict[str, tuple[Any, ...]] = {}
        self.slots = SimpleNamespace(count=4)
        for name in ("start_point", "as_recorded", "make_plan", "counted", "slots_of", "policy_of"):
            patch.setattr(beginning, name, self._called(name))

    def _called(self, name: str) -> Any:
        def called(*given: Any) -> Any:
            self.asked[name] = given
            answers = {
                "start_point": self.found,
                "as_recorded": "recorded",
                "make_plan": SimpleNamespace(graph="a new graph"),
                "counted": self.counted or self.found,
                "slots_of": self.slots,
                "policy_of": "policy",
            }
            return answers[name]

        return called


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def test_start_is_made_of_all_that_it_needs(looks: Looks) -> None:
    looks.counted = start(step=6)
    found = prepared(CONFIG, OUTPUT, RECORD)
    assert isinstance(found, Ready)
    ready: Any = found
    assert (ready.start, ready.policy, ready.slots) == (looks.counted, "policy", looks.slots)
    assert ready.plan.graph == "a new graph"
    assert looks.asked == {
        "start_point": (CONFIG, OUTPUT, RECORD),
        "as_recorded": (CONFIG, RECORD),
        "make_plan": ("recorded", looks.found),
        "counted": (CONFIG, looks.found, ready.plan, RECORD),
        "slots_of": (CONFIG, "a new graph", RECORD),
        "policy_of": (CONFIG, "a new graph", 9, 4),
    }


@pytest.mark.parametrize(("step", "ends"), [(8, False), (9, True), (10, True)])
def test_run_whose_last_step_is_saved_already_needs_no_plan(
    looks: Looks, step: int, ends: bool
) -> None:
    looks.found = start(step=step)
    assert (prepared(CONFIG, OUTPUT, RECORD) is looks.found) is ends
    assert ("make_plan" in looks.asked) is not ends


@pytest.mark.parametrize("step", [9, 10])
def test_number_in_a_strangers_file_name_is_believed_only_once_the_graph_has_counted(
    looks: Looks, step: int
) -> None:
    looks.found = start(own_label=None, step=step)
    looks.counted = start(own_label=None, step=5)
    assert isinstance(prepared(CONFIG, OUTPUT, RECORD), Ready)
    looks.counted = start(own_label=None, step=step)
    assert prepared(CONFIG, OUTPUT, RECORD) is looks.counted


@pytest.mark.parametrize(
    ("before", "is_same"),
    [
        ({}, True),
        ({"step": 4}, True),
        ({"fingerprint": "bb"}, False),
        ({"own_label": "a/m-4"}, False),
        ({"parent": (1, 2)}, False),
    ],
)
def test_plan_of_an_earlier_look_is_taken_where_it_was_for_the_same_checkpoint(
    looks: Looks, before: dict[str, Any], is_same: bool
) -> None:
    plan: Any = SimpleNamespace(graph="the graph of before")
    earlier = Ready(start(**before), plan, *(SimpleNamespace() for _ in range(2)))  # type: ignore[arg-type]
    ready = prepared(CONFIG, OUTPUT, RECORD, earlier)
    assert isinstance(ready, Ready)
    assert (ready.plan is plan) is is_same
    assert ("make_plan" in looks.asked) is not is_same


def test_workers_with_other_settings_are_refused_with_each_of_them_and_both_ways_on() -> None:
    config = parse_config(
        {
            "source": "s",
            "output": "memory://b/more",
            "until_step": 9,
            "input": "mine:batches",
            "orphan_timeout_s": 90,
            "freeze": ["hidden"],
            "seed": 3,
        }
    )
    last = {**config.model_dump(mode="json"), "seed": 4, "input": "yours:batches"}
    last["max_to_keep"] = 77  # the driver's alone
    last["step_prefetch_of_old"] = "a setting of an earlier version"
    record = RunRecord(source="s", fingerprint="aa", name="m", started_step=0)
    with pytest.raises(ConfigError) as refused:
        refuse_others_workers(config, open_location("memory://b/more"), record, last)
    assert refused.value.message == (
        "workers of a driver that died still train memory://b/more with other settings: "
        "input is 'mine:batches' here and 'yours:batches' there; seed is 3 here and 4 there"
    )
    assert refused.value.remedy == (
        "Give the same settings to go on with them, or end them with `tfresume stop`; without a driver they end by themselves "
        "within 90 s"
    )
    assert refused.value.details == {"settings": ["input", "seed"]}
