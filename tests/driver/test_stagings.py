"""Is the wait for a checkpoint told, so that goodput and report can show it?"""

from __future__ import annotations

from orchestrator.decide.events import Doing, Progress
from orchestrator.driver.stagings import Stagings
from orchestrator.journal.worker_events import CheckpointStaged


def pulse(worker: str, doing: Doing) -> Progress:
    return Progress(worker, 1, 0, doing)


def test_staging_is_told_once_by_its_end_for_each_worker() -> None:
    stagings = Stagings()
    assert stagings.take(pulse("w1", Doing.LOADING), "a", 0.0) is None
    assert stagings.take(pulse("w1", Doing.STAGING), "a", 1.0) is None
    assert stagings.take(pulse("w2", Doing.STAGING), "b", 2.0) is None
    assert stagings.take(pulse("w1", Doing.STAGING), "a", 3.0) is None
    assert stagings.take(pulse("w1", Doing.JOINING), "a", 5.0) == CheckpointStaged(
        worker="w1", node="a", seconds=4.0
    )
    assert stagings.take(pulse("w1", Doing.STEP), "a", 6.0) is None
    assert stagings.take(pulse("w2", Doing.JOINING), "b", 6.0) == CheckpointStaged(
        worker="w2", node="b", seconds=4.0
    )
