"""Is the wait for a checkpoint told, so that goodput and report can show it?"""

from __future__ import annotations

from orchestrator.decide.events import Doing, Progress
from orchestrator.decide.roster import Roster, Stage, Worker
from orchestrator.driver.stagings import Stagings
from orchestrator.journal.worker_events import CheckpointStaged

WORKERS = Roster(
    Worker(ident, Stage.STARTING, 0.0, 0.0, node=node) for ident, node in (("w1", "a"), ("w2", "b"))
)


def pulse(worker: str, doing: Doing) -> Progress:
    return Progress(worker, 1, 0, doing)


def test_staging_is_told_once_by_its_end_for_each_worker() -> None:
    stagings = Stagings()
    assert stagings.take(pulse("w1", Doing.LOADING), WORKERS, 0.0) is None
    assert stagings.take(pulse("w1", Doing.STAGING), WORKERS, 1.0) is None
    assert stagings.take(pulse("w2", Doing.STAGING), WORKERS, 2.0) is None
    assert stagings.take(pulse("w1", Doing.STAGING), WORKERS, 3.0) is None
    assert stagings.take(pulse("w1", Doing.JOINING), WORKERS, 5.0) == CheckpointStaged(
        worker="w1", node="a", seconds=4.0
    )
    assert stagings.take(pulse("w1", Doing.STEP), WORKERS, 6.0) is None
    assert stagings.take(pulse("w2", Doing.JOINING), WORKERS, 6.12345) == CheckpointStaged(
        worker="w2", node="b", seconds=4.123
    )


def test_wait_of_a_worker_that_is_gone_is_forgotten() -> None:
    stagings = Stagings()
    for number in range(100):
        ident = f"w{number}"
        alone = Roster([Worker(ident, Stage.STARTING, 0.0, 0.0)])
        assert stagings.take(pulse(ident, Doing.STAGING), alone, 1.0) is None
        assert stagings.take(pulse(ident, Doing.STAGING), alone, 2.0) is None
    assert len(stagings._since) == 1
    assert stagings.take(pulse("w7", Doing.STEP), alone, 3.0) is None
