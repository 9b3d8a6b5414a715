"""Driver and workers die together: is every loss told and paid for, is its room used again, and is
nothing left in the end?

On a cluster with room for two workers and no more, so that a place that is lost is missed at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from orchestrator.workers.namespace import living_workers, namespace_of
from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import variables_of
from tests.chaos.supervision import PACED, Supervised, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.chaos, pytest.mark.turns(8, "losses")]


@pytest.fixture(scope="module")
def narrow() -> Iterator[str]:
    """The address of a cluster with two CPUs; this process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "include_dashboard": False,
            "dashboard_port": 0,
            "object_store_memory": 200 << 20,
        },
    )
    ray.init(address=made.address, log_to_driver=False)
    yield made.address
    ray.shutdown()
    made.shutdown()


def paced(directory: Path, seconds: float = 0.05) -> str:
    """An input that takes its time until ``directory/quick`` is there."""
    inputs = directory / "paced.py"
    inputs.write_text(PACED.format(quick=str(directory / "quick"), seconds=seconds))
    return f"{inputs}:batches"


def shape(directory: Path, **changes: Any) -> dict[str, Any]:
    return {"workers": 2, "prove": False, "lease_s": 2.0, "input": paced(directory), **changes}


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def groups_of(run: Supervised) -> list[str]:
    from ray.util.placement_group import placement_group_table

    mine = f"{namespace_of(run.output.url)}/"
    table: Any = placement_group_table()
    return [
        entry["name"]
        for entry in table.values()
        if entry["name"].startswith(mine) and entry["state"] != "REMOVED"
    ]


def trained(run: Supervised, steps: int) -> list[int]:
    """Wait until so many steps are journaled; the members' processes by rank."""
    run.wait_for(lambda: any(event["step"] >= steps for event in run.events("progress")))
    return [run.pid_of(worker) for worker in run.events("generation")[-1]["workers"]]


def test_driver_and_a_worker_killed_together_are_told_and_the_dead_ones_room_is_used_again(
    start: Callable[..., Supervised],
    narrow: str,
    tf1_checkpoint: Any,
    tmp_path: Path,
    undisturbed: dict[str, np.ndarray],
) -> None:
    """The dead worker's place was never free again: the run waited for room until it gave up."""
    run = start(tf1_checkpoint("mlp"), tmp_path / "out", narrow, **shape(tmp_path))
    victim = trained(run, 10)[0]
    kill(run.events("attempt")[0]["pid"], victim)
    run.wait_for(lambda: run.events("training", attempt=2), 120.0)
    (tmp_path / "quick").touch()
    assert run.end() == 0
    (generation,) = run.events("generation", attempt=2)
    assert (generation["world_size"], generation["state_from"], generation["redone"]) == (
        2,
        "donor",
        0,
    )
    (lost,) = run.events("worker_lost", attempt=2)
    assert (lost["rank"], lost["pid"], lost["cause"]) == (0, victim, "died")
    (incident,) = run.events("incident")
    assert (incident["kind"], incident["rank"], incident["steps_redone"]) == ("died", 0, 0)
    assert incident["recovered_s"] > incident["detected_s"] > 0
    assert not groups_of(run)
    assert_same_bytes(
        undisturbed,
        variables_of(next((tmp_path / "out").glob("a0002-*/model.ckpt-120.index")).with_suffix("")),
    )


def test_driver_adopts_its_predecessors_workers_from_a_journal_that_is_damaged(
    start: Callable[..., Supervised],
    narrow: str,
    tf1_checkpoint: Any,
    tmp_path: Path,
    undisturbed: dict[str, np.ndarray],
) -> None:
    """It ended with an error, and its supervisor started it in vain until the workers were gone."""
    output = tmp_path / "out"
    run = start(tf1_checkpoint("mlp"), output, narrow, **shape(tmp_path))
    trained(run, 10)
    parts = sorted((output / "_tfresume" / "journal").glob("*.jsonl"))
    assert len(parts) >= 3
    os.kill(run.process.pid, signal.SIGSTOP)  # its supervisor waits until the damage is done
    kill(run.events("attempt")[0]["pid"])
    parts[0].write_bytes(parts[0].read_bytes()[:-40])
    parts[1].write_bytes(b"\xff\x00{" * 50)
    parts[2].unlink()
    parts[2].mkdir()
    run.tell = lambda _: None
    os.kill(run.process.pid, signal.SIGCONT)
    run.wait_for(lambda: run.events("adopted", attempt=2), 120.0)
    (tmp_path / "quick").touch()
    assert run.end() == 0
    assert run.events("adopted")[0]["complete"]
    assert not run.events("worker_start", attempt=2), "workers were replaced"
    warned = "\n".join(event["reason"] for event in run.events("warning", attempt=2))
    assert all(part.name in warned for part in parts[:3])
    assert_same_bytes(
        undisturbed,
        variables_of(next(output.glob("a0002-*/model.ckpt-120.index")).with_suffix("")),
    )


def test_everybody_killed_together_is_told_with_the_steps_that_are_done_again(
    start: Callable[..., Supervised], narrow: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    """The groups of the dead stay in Ray: they took all the room, and the next driver refused."""
    run = start(tf1_checkpoint("mlp"), tmp_path / "out", narrow, **shape(tmp_path, save_steps=10))
    members = trained(run, 25)
    kill(run.events("attempt")[0]["pid"], *members)
    known = max(event["step"] for event in run.events("progress", attempt=1))
    saved = max(event["step"] for event in run.events("save_committed", attempt=1))
    (tmp_path / "quick").touch()
    assert run.end() == 0
    assert {event["rank"] for event in run.events("worker_lost", attempt=2)} == {0, 1}
    incident = run.events("incident")[0]
    assert (incident["kind"], incident["steps_redone"]) == (
        "died",
        max(0, known - run.events("generation", attempt=2)[0]["step"]),
    )
    assert run.events("generation", attempt=2)[0]["step"] >= saved
    assert not groups_of(run), "a run that ended well leaves nothing"
    assert not living_workers(namespace_of(run.output.url))


def test_orphans_end_with_their_places(
    start: Callable[..., Supervised], narrow: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    run = start(
        tf1_checkpoint("mlp"), tmp_path / "out", narrow, **shape(tmp_path, orphan_timeout_s=3.0)
    )
    members = trained(run, 5)
    assert len(groups_of(run)) == 2
    run.process.kill()  # the driver dies with its supervisor
    wait_until(
        lambda: not any(psutil.pid_exists(pid) for pid in members), "workers outlive their driver"
    )
    wait_until(lambda: not groups_of(run), "their places outlive them")


def test_other_input_is_refused_while_workers_live_and_they_go_on(
    start: Callable[..., Supervised], narrow: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    source, output = tf1_checkpoint("mlp"), tmp_path / "out"
    run = start(source, output, narrow, **shape(tmp_path, orphan_timeout_s=60.0))
    members = trained(run, 5)
    run.process.kill()
    other = start(source, output, narrow, **shape(tmp_path, seed=7))
    assert other.end() == 2
    elsewhere = start(tf1_checkpoint("mlp", optimizer="adagrad"), output, narrow, **shape(tmp_path))
    assert elsewhere.end() == 2
    assert all(psutil.pid_exists(pid) for pid in members), "a command that is refused ends nobody"
    (tmp_path / "quick").touch()
    same = start(source, output, narrow, **shape(tmp_path, orphan_timeout_s=60.0))
    assert same.end() == 0
    assert same.events("adopted")[0]["complete"]
    assert not same.events("worker_start", attempt=same.events("adopted")[0]["attempt"])
