"""Are the numbers that a monitoring system sees those of the run, and none invented?"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from orchestrator.driver.measurements import METERS, of_event, of_progress
from orchestrator.driver.observer import RunProgress
from orchestrator.journal.parsing import parse
from tests.driver.prometheus import exported

PROGRESS = RunProgress(
    step=100, loss=0.5, steps_per_s=20.0, checkpoint=None, world_size=2, until=1000, generation=3
)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param({"event": "training", "step": 1}, [], id="nothing to measure"),
        pytest.param(
            {"event": "incident", "kind": "hung", "recovered_s": 6.5, "steps_redone": 3},
            [
                ("tfresume_incidents", 1.0, "hung"),
                ("tfresume_steps_redone", 3.0, None),
                ("tfresume_recovery_seconds", 6.5, "hung"),
            ],
            id="an incident",
        ),
        pytest.param(
            {"event": "incident", "kind": "died", "recovered_s": None, "steps_redone": 0},
            [("tfresume_incidents", 1.0, "died")],
            id="an incident that was never over",
        ),
        pytest.param(
            {"event": "save_committed", "step": 100, "size_bytes": 480, "stall_s": 0.05},
            [
                ("tfresume_saves", 1.0, "committed"),
                ("tfresume_checkpoint_step", 100.0, None),
                ("tfresume_checkpoint_bytes", 480.0, None),
                ("tfresume_save_stall_seconds", 0.05, None),
            ],
            id="a commit",
        ),
        pytest.param(
            {"event": "save_failed", "step": 100},
            [("tfresume_saves", 1.0, "failed")],
            id="a failed save",
        ),
    ],
)
def test_measurements_of_an_event_are_those_it_tells(
    event: dict[str, Any], expected: list[tuple[str, float, str | None]]
) -> None:
    found = [
        (item.name, item.value, next(iter(item.labels.values()), None))
        for item in of_event(parse(event))
    ]
    assert found == expected


def test_measurements_of_progress_leave_out_a_loss_that_is_not_a_number() -> None:
    known = {item.name: item.value for item in of_progress(PROGRESS)}
    assert (known["tfresume_step"], known["tfresume_until_step"], known["tfresume_loss"]) == (
        100.0,
        1000.0,
        0.5,
    )
    for loss in (None, float("nan"), float("inf")):
        progress = RunProgress(
            step=100, loss=loss, steps_per_s=0.0, checkpoint=None, world_size=2, until=1000
        )
        assert "tfresume_loss" not in {item.name for item in of_progress(progress)}


def test_every_measurement_has_a_meter_with_its_labels_and_a_name_that_prometheus_takes() -> None:
    events: list[dict[str, Any]] = [
        {"event": "incident", "recovered_s": 1.0, "steps_redone": 1},
        {"event": "save_committed", "step": 1, "size_bytes": 1, "stall_s": 1},
        {"event": "step_times", "ranks": {"0": {"compute": 0.1}}},
    ]
    measured = [
        *of_progress(PROGRESS),
        *(item for event in events for item in of_event(parse(event))),
    ]
    assert {item.name for item in measured} == set(METERS)
    assert all(set(item.labels) == set(METERS[item.name].labels) for item in measured)
    assert all(re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name) for name in METERS)


TELLER = """
import sys, ray
from orchestrator.driver.metrics import RayMetrics
from tests.driver.test_measurements import PROGRESS
ray.init(address=sys.argv[1], logging_level="ERROR")
metrics = RayMetrics("gs://b/more")
metrics.progress(PROGRESS)
metrics.event({"event": "incident", "kind": "died", "recovered_s": 0.4, "steps_redone": 0})
node = ray.nodes()[0]
print(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", flush=True)
sys.stdin.read()
"""


@pytest.mark.ray
def test_metrics_of_a_run_reach_the_nodes_prometheus_endpoint(ray_address: str) -> None:
    # A process of its own: Ray's metrics belong to the first cluster that a process was connected
    # to
    command = [sys.executable, "-c", TELLER, ray_address]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    ) as teller:
        assert teller.stdout is not None
        text = _told(teller.stdout.readline().strip())
        teller.communicate("", timeout=60)
    assert _lines(text)[0].endswith(" 100.0")
    assert re.search(r'ray_tfresume_incidents(?:_total)?\{[^}]*kind="died"[^}]*\} 1\.0', text)


def _told(url: str) -> str:
    deadline = time.monotonic() + 90
    text = ""
    while not _lines(text):  # other runs of this session may have told theirs
        assert time.monotonic() < deadline, text[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                text = reply.read().decode()
        except OSError:
            continue
    return text


def _lines(text: str) -> list[str]:
    """The step of our run, once its incidents are told too."""
    ours = [line for line in text.splitlines() if 'run="gs://b/more"' in line]
    steps = [line for line in ours if line.startswith("ray_tfresume_step{")]
    return (
        steps if any(line.startswith(exported("tfresume_incidents") + "{") for line in ours) else []
    )
