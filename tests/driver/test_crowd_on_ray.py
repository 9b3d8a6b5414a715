"""Does the real driver form and train a large group whose every message passes through Ray?"""

from __future__ import annotations

import pytest
import ray

from orchestrator.journal.group_events import GenerationFormed, TrainingBegan
from orchestrator.journal.run_events import IncidentOver
from orchestrator.journal.worker_events import LossOfWorker, WorkerHung, WorkerWarm
from tests.benchmarks.crowd_on_ray import watch

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1200), pytest.mark.turns(32, "whole runs")]
SECONDS = 5.0
"""So long the group trains, a step each second where the machine bears it."""


@pytest.mark.parametrize("workers", [64, pytest.param(1000, marks=pytest.mark.soak)])
def test_crowd_whose_messages_pass_through_ray_forms_trains_and_loses_nobody(
    ray_address: str, workers: int
) -> None:
    ray.init(ray_address, ignore_reinit_error=True)
    try:
        seen = watch(workers, SECONDS)
    finally:
        ray.shutdown()  # the next test of this process may want another cluster
    assert seen.kinds.count(WorkerWarm) == workers
    assert seen.kinds.count(GenerationFormed) == seen.kinds.count(TrainingBegan) == 1
    assert not {IncidentOver, LossOfWorker, WorkerHung} & {*seen.kinds}
    assert seen.messages > 0
    assert seen.steps[0] > 0
