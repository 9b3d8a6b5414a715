"""Is a trial asked of Ray over once it's answered, with nothing left of it that could end the driver?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.turns(32, "whole runs")

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 5
ASKING = """
import sys, time
import ray
from orchestrator.config import parse_config
from orchestrator.driver.trial import asked_of_ray

ray.init(address=sys.argv[1], log_to_driver=False)
config = parse_config({"source": "s", "output": "o", "workers": 2})
for _ in range(int(sys.argv[2])):
    print(asked_of_ray({"no": "task"}, config)["reason"], flush=True)
deadline_s = time.monotonic() + 60
while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
    assert time.monotonic() < deadline_s, "an actor still holds its place"
    time.sleep(0.1)
print("over")
"""


@pytest.mark.ray
def test_trial_that_is_answered_is_over_and_the_driver_lives_on(ray_address: str) -> None:
    """It was a task that was cancelled when it had answered, which made Ray abort the driver."""
    done = subprocess.run(
        [sys.executable, "-c", ASKING, ray_address, str(TRIALS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr[-3000:]
    assert said[-1] == "over"
    assert len(said) == TRIALS + 1
    assert all("unexpected keyword argument 'no'" in line for line in said[:-1]), said
