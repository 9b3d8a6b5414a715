"""Nodes come and go: does the group shrink at once, hand over before a node that says so is gone,
and grow when one comes?

One run on a cluster of its own (the driver's node can't be among those that die). Whatever the
group's size, a step stays what it was: the learning rate and the effective batch with it.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from launch.text.status_text import incident_line
from tests.chaos.runs import Watcher, config_for, play

pytestmark = [
    pytest.mark.ray,
    pytest.mark.tf,
    pytest.mark.chaos,
    pytest.mark.timeout(400),
    pytest.mark.turns(32, "whole runs"),
]

RATE, FIRST_RATE = "GradientDescent/learning_rate:0", 0.05
SLOTS = 3
DRAIN_S = 5
UP_WITHIN_S, TRIES = 90.0, 3
QUICK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 4,
}
"""Ray calls a node dead after 20 s of silence otherwise."""

INPUT = """
from tests.chaos.batches import slow_batches


def batches(ctx):
    for batch in slow_batches(ctx):
        yield {{**batch, {rate!r}: {first}}}
"""


class Nodes:
    """A cluster whose nodes each have room for one worker."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {
            "num_cpus": 1,
            "include_dashboard": False,
            "dashboard_port": 0,
            "object_store_memory": 200 << 20,
            "_system_config": QUICK,
        }
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.first: Any = None
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """A node as an operator starts it, which drains itself when it's told to end. Ray gives up
        on a machine that's too busy.
        """
        for _ in range(TRIES):
            process = self.started[name] = self._try(name)
            deadline = time.monotonic() + UP_WITHIN_S
            while process.poll() is None and time.monotonic() < deadline:
                if self._named(name):
                    return
                time.sleep(0.2)
            self._end(process)
        raise AssertionError(f"the node {name} didn't come up in {TRIES} tries")

    def _try(self, name: str) -> subprocess.Popen[bytes]:
        command = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            f"--address={self.cluster.address}",
            "--num-cpus=1",
            "--block",
            f'--resources={{"{name}": 1}}',
            f"--object-store-memory={100 << 20}",
        ]
        environment = os.environ | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(DRAIN_S)}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
        )

    @staticmethod
    def _named(name: str) -> list[str]:
        import ray

        return [
            node["NodeID"] for node in ray.nodes() if node["Alive"] and name in node["Resources"]
        ]

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def drain(self, name: str) -> None:
        """The notice that a platform gives before it takes a node away."""
        (identity,) = self._named(name)
        subprocess.run(
            [
                str(Path(sys.executable).with_name("ray")),
                "drain-node",
                f"--address={self.cluster.address}",
                f"--node-id={identity}",
                "--reason=DRAIN_NODE_REASON_PREEMPTION",
                "--reason-message=spot",
                "--deadline-remaining-seconds=60",
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def close(self) -> None:
        import ray

        ray.shutdown()
        for process in self.started.values():
            self._end(process)
        self.cluster.shutdown()


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    import ray

    made = Nodes()
    made.first = made.cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    ray.init(address=made.cluster.address, log_to_driver=False)
    yield made
    made.close()


class Story:
    """An observer: does the next thing in a thread of its own when the group has the size that the
    last one led to.
    """

    def __init__(self, *chapters: tuple[int, Callable[[], Any]]) -> None:
        self.chapters = list(chapters)
        self.began: list[float] = []
        self.rates: dict[int, set[float]] = {}
        self.errors: list[BaseException] = []

    def __call__(self, watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        if kind != "step" or not self.chapters:
            return
        begun = watcher.named("generation")[-1]["step"]
        # until then it's the group's before it
        if RATE in event["values"] and event["step"] > begun:
            self.rates.setdefault(len(watcher.ranks), set()).add(round(event["values"][RATE], 6))
        size, what = self.chapters[0]
        if len(watcher.ranks) == size and event["step"] > begun + 3:
            self.chapters.pop(0)
            self.began.append(time.time())
            threading.Thread(target=self._do, args=(what,)).start()

    def _do(self, what: Callable[[], Any]) -> None:
        try:
            what()
        except Exception as error:  # noqa: BLE001 - told by the test itself
            self.errors.append(error)
            os.kill(os.getpid(), signal.SIGINT)


def test_nodes_that_die_drain_end_and_come_change_the_group_and_nothing_else(
    nodes: Nodes, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    inputs = tmp_path / "scaled.py"
    inputs.write_text(INPUT.format(rate=RATE, first=FIRST_RATE))
    config = config_for(
        tf1_checkpoint("mlp", optimizer="sgd"),
        tmp_path / "out",
        until_step=10**6,
        input=f"{inputs}:batches",
        watch=[RATE],
        workers={"count": 2, "min": 1, "max": 3},
        on_resize="scale_lr",
        scale_lr_feed=RATE,
        batches_per_step=SLOTS,
    )
    story = Story(
        (2, lambda: os.kill(raylet_of(nodes.first), signal.SIGKILL)),
        (1, lambda: nodes.start("second")),
        (2, lambda: nodes.start("third")),
        (3, lambda: nodes.drain("second")),
        (2, lambda: nodes.started["third"].terminate()),
        (1, lambda: os.kill(os.getpid(), signal.SIGINT)),
    )
    result, watcher = play(config, story)
    assert not story.errors, story.errors
    assert not story.chapters, f"{watcher.events[-5:]}"
    assert result.status == "stopped", result
    generations = watcher.named("generation")
    assert [event["world_size"] for event in generations] == [2, 1, 2, 3, 2, 1]
    assert_every_batch_once(generations)
    assert {size: len(rates) for size, rates in story.rates.items()} == {1: 1, 2: 1, 3: 1}
    assert set().union(*story.rates.values()) == {FIRST_RATE}
    lost, *others = result.incidents
    assert (lost["kind"], lost["steps_redone"]) == ("node", 0)
    assert "effective batch" not in incident_line(dict(lost)), "it is what it was"
    assert not others, "a node that says it will go costs nothing"
    assert [event["reason"] for event in watcher.named("worker_notice")] == [
        "its node is draining"
    ] * 2
    assert result.final_step == int(str(result.checkpoint).rpartition("-")[2]), (
        "saved before the end"
    )


def raylet_of(node: Any) -> int:
    (raylet,) = node.all_processes["raylet"]
    return int(raylet.process.pid)


def assert_every_batch_once(generations: list[Mapping[str, Any]]) -> None:
    """The position goes on by the same number of batches in each step, whatever the group's size
    became.
    """
    for before, after in itertools.pairwise(generations):
        served = (after["step"] - before["step"]) * SLOTS
        assert after["position"] == before["position"] + served, (
            "a batch was skipped or served twice"
        )
