"""What do workers need of a checkpoint, and what is said where there is none?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.driver import restorable
from orchestrator.driver.restorable import files_of, newest_restorable
from orchestrator.errors import CorruptCheckpoint
from orchestrator.graph.loading import AS_SAVED
from orchestrator.workers.orders import CheckpointFiles


def source(**about: Any) -> Any:
    values = {
        "prefix": SimpleNamespace(url="gs://s/m-5"),
        "manifest": None,
        "step": None,
        "step_in_name": None,
        "files": ("a file",),
        "links": ("a link",),
        "label": "m-5",
    }
    return SimpleNamespace(**{**values, **about})


@pytest.mark.parametrize(
    ("about", "given", "step", "position"),
    [
        ({"manifest": SimpleNamespace(step=0, position=12), "step": 3}, None, 0, 12),
        ({"step": 3, "step_in_name": 5}, None, 3, 0),
        ({"step": 0, "step_in_name": 5}, None, 0, 0),
        ({"step_in_name": 5}, None, 5, 0),
        ({}, None, 0, 0),
        ({"step": 3}, 7, 7, 0),
        ({"step": 3}, 0, 0, 0),
    ],
)
def test_files_of_a_checkpoint_say_at_which_step_it_is(
    about: dict[str, Any], given: int | None, step: int, position: int
) -> None:
    found = files_of(source(**about), given)
    links: Any = ("a link",)
    files: Any = ("a file",)
    assert found == CheckpointFiles(step, position, "gs://s/m-5", files, links=links)


def refused(loading: Any, exclude: dict[str, str]) -> CorruptCheckpoint:
    nothing: Any = None
    with pytest.raises(CorruptCheckpoint) as told:
        newest_restorable(nothing, nothing, loading, exclude)
    return told.value


def test_state_that_cannot_be_restored_any_more_is_told_with_the_way_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restorable, "newest_state", lambda *_, **__: (None, None))
    monkeypatch.setattr(restorable, "named_source", lambda config: "the source")
    monkeypatch.setattr(restorable, "resolve_source", lambda *_, **__: source())
    unknown = refused(None, {})
    assert unknown.message == (
        "no good checkpoint of the run's own is left, and its first start took other names, values or a step than the source's own"
    )
    assert unknown.remedy == "Start again with the same flags into another output"
    bad = refused(AS_SAVED, {"m-5": "w: a NaN"})
    assert bad.message == (
        "m-5 turned out bad while it was restored, and the source names no other: w: a NaN"
    )
    assert bad.remedy == "Name another checkpoint, or copy this one again"
