"""Does a dead driver cost nothing but the seconds until the next one, and does a stopped one save?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests.chaos.conftest import assert_same_bytes
from tests.chaos.runs import config_for, variables_of
from tests.chaos.supervision import PACED, ROOT, Supervised
from tests.servers.fault_proxy import FaultProxy
from tests.servers.object_stores import Server

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.chaos, pytest.mark.turns(8, "losses")]


def test_worker_and_then_the_driver_die_while_the_bucket_refuses_every_read(
    start: Callable[..., Supervised],
    gcs_server: Server,
    tf1_checkpoint: Any,
    tmp_path: Path,
    undisturbed: dict[str, np.ndarray],
) -> None:
    """Source and output lie in a bucket that refuses all reads while a worker is replaced; then all
    but the driver's own records while the next driver takes over the living workers.
    """
    proxy = FaultProxy(("127.0.0.1", gcs_server.port))
    prefix, bucket = tf1_checkpoint("mlp"), tmp_path.name
    for file in prefix.parent.iterdir():
        open_location(
            gcs_server.url(f"{bucket}/source/{file.name}"), **gcs_server.options()
        ).write_bytes(file.read_bytes())
    inputs = tmp_path / "paced.py"
    inputs.write_text(PACED.format(quick=str(tmp_path / "quick"), seconds=1.0))
    run = start(
        gcs_server.url(f"{bucket}/source/{prefix.name}"),
        gcs_server.url(f"{bucket}/out"),
        None,
        options=gcs_server.options(),
        environment=gcs_server.environment() | {"STORAGE_EMULATOR_HOST": proxy.endpoint},
        input=f"{inputs}:batches",
    )
    run.wait_for(lambda: run.events("training") and len(run.events("worker_warm")) == 3, 120.0)
    survivor, victim = run.events("generation")[0]["workers"]

    refusing = proxy.refuse(lambda request: request.method == "GET")
    os.kill(run.pid_of(victim), signal.SIGKILL)
    (incident,) = run.wait_for(lambda: run.events("incident"), 120.0)
    assert (incident["kind"], incident["steps_redone"]) == ("died", 0)
    assert not [
        request.target for request in refusing.fired if "_tfresume" not in request.target
    ], "a recovery read a checkpoint"
    refusing.times = 0

    run.wait_for(lambda: len(run.events("worker_warm")) == 4, 120.0)
    members = run.events("generation")[-1]["workers"]
    pids = [run.pid_of(worker) for worker in members]
    refusing = proxy.refuse(
        lambda request: request.method == "GET" and "_tfresume" not in request.target
    )
    os.kill(run.events("attempt")[0]["pid"], signal.SIGKILL)
    (adopted,) = run.wait_for(lambda: run.events("adopted"), 120.0)
    assert adopted["complete"]
    run.wait_for(lambda: run.events("progress", attempt=2), 120.0)
    assert all(psutil.pid_exists(pid) for pid in pids), "a worker was replaced"
    # It also looks for what TensorFlow is to be pointed at; refused, that waits for the next commit
    pointing = f"prefix={bucket}/out/&"
    others = [
        request.target
        for request in refusing.fired
        if "a0002" not in request.target and pointing not in request.target
    ]
    assert not others, "more was read than what the new driver is about to write itself"
    refusing.times = 0

    (tmp_path / "quick").touch()
    assert run.end() == 0
    (driver,) = run.events("incident", attempt=2)
    assert (driver["kind"], driver["steps_redone"]) == ("driver", 0)
    assert (driver["exit_code"], driver["losses"]) == (-signal.SIGKILL, 1), driver["reason"]
    assert not run.events("worker_start", attempt=2), "workers were replaced"
    assert not run.events("generation", attempt=2), "the group was formed anew"
    assert not run.events("finding_checkpoint")
    assert survivor in members
    assert run.events("finish")[-1]["step"] == 120
    saved = open_location(gcs_server.url(f"{bucket}/out/a0002-g0002"), **gcs_server.options())
    for info in saved.list():
        (tmp_path / info.name).write_bytes(saved.child(info.name).read_bytes())
    assert_same_bytes(undisturbed, variables_of(tmp_path / "model.ckpt-120"))
    proxy.close()


def test_driver_killed_during_the_last_save_costs_no_step(
    start: Callable[..., Supervised],
    gcs_server: Server,
    tf1_checkpoint: Any,
    tmp_path: Path,
    undisturbed: dict[str, np.ndarray],
) -> None:
    """The writer is still busy with the dead driver's save: the next driver was refused five times
    within milliseconds and gave up.
    """
    proxy, bucket = FaultProxy(("127.0.0.1", gcs_server.port)), tmp_path.name
    environment = gcs_server.environment() | {"STORAGE_EMULATOR_HOST": proxy.endpoint}
    hanging = proxy.spoil("hang", "POST", "model.ckpt-120.data-", times=1000)
    # the bucket is there
    open_location(gcs_server.url(f"{bucket}/out/first"), **gcs_server.options()).write_bytes(b"")
    run = start(
        tf1_checkpoint("mlp"),
        gcs_server.url(f"{bucket}/out"),
        None,
        options=gcs_server.options(),
        environment=environment,
        workers=2,
    )
    run.wait_for(lambda: hanging.fired, 120.0)
    os.kill(run.events("attempt")[0]["pid"], signal.SIGKILL)
    run.wait_for(lambda: len(run.events("save_postponed", attempt=2)) >= 3, 120.0)
    assert not run.events("save_failed"), "busy is no failure"
    hanging.end()
    assert run.end() == 0
    proxy.close()
    assert not run.events("generation", attempt=2), "the group was formed anew"
    assert run.events("finish")[-1]["checkpoint_step"] == 120
    label = run.events("save_committed", attempt=2)[-1]["checkpoint"]
    saved = open_location(
        gcs_server.url(f"{bucket}/out/{label.rpartition('/')[0]}"), **gcs_server.options()
    )
    for info in saved.list():
        (tmp_path / info.name).write_bytes(saved.child(info.name).read_bytes())
    assert_same_bytes(undisturbed, variables_of(tmp_path / "model.ckpt-120"))


def test_driver_and_a_worker_killed_together_go_on_from_the_survivor(
    start: Callable[..., Supervised],
    ray_address: str,
    tf1_checkpoint: Any,
    tmp_path: Path,
    undisturbed: dict[str, np.ndarray],
) -> None:
    run = start(tf1_checkpoint("mlp"), tmp_path / "out", ray_address, lease_s=2.0)
    run.wait_for(lambda: run.events("training") and len(run.events("worker_warm")) == 3)
    os.kill(run.events("attempt")[0]["pid"], signal.SIGKILL)
    victim = run.events("generation")[0]["workers"][0]
    os.kill(
        next(event["pid"] for event in run.events("worker_warm") if event["worker"] == victim),
        signal.SIGKILL,
    )
    assert run.end() == 0
    adopted = run.events("adopted")[0]
    assert not adopted["complete"]
    generation = run.events("generation", attempt=2)[0]
    assert generation["redone"] == 0
    assert generation["state_from"] == "donor"
    assert_same_bytes(
        undisturbed,
        variables_of(next((tmp_path / "out").glob("a0002-*/model.ckpt-120.index")).with_suffix("")),
    )


def test_terminated_driver_saves_at_the_boundary_and_exits_143(
    start: Callable[..., Supervised], ray_address: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    """However many SIGTERMs, and however far the boundary: Ray's own handler would abort three
    seconds after the first.
    """
    inputs = tmp_path / "paced.py"
    inputs.write_text(PACED.format(quick=str(tmp_path / "quick"), seconds=4.0))
    run = start(
        tf1_checkpoint("mlp"),
        tmp_path / "out",
        ray_address,
        until_step=100_000,
        workers=2,
        input=f"{inputs}:batches",
        hang_floor_s=60.0,
    )
    run.wait_for(lambda: run.events("training"))
    for _ in range(3):
        run.process.terminate()
    assert run.end() == 143
    finish = run.events("finish")[0]
    assert finish["outcome"] == "stopped"
    assert finish["checkpoint_step"] == finish["step"] > 3
    assert finish["t_s"] - run.events("stopping")[0]["t_s"] > 3.0, (
        "the boundary was too near to tell anything"
    )


def test_orphaned_workers_end_themselves(
    ray_address: str, tf1_checkpoint: Any, tmp_path: Path
) -> None:
    config = config_for(
        tf1_checkpoint("mlp"),
        tmp_path / "out",
        address=ray_address,
        until_step=100_000,
        workers=2,
        orphan_timeout_s=3.0,
    ).model_dump(mode="json")
    command = [sys.executable, "-m", "tests.chaos.supervised", json.dumps(config)]
    driver = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    output = open_location(str(tmp_path / "out"))

    def named(name: str) -> list[dict[str, Any]]:
        return [event for event in read_journal(output) if event["event"] == name]

    deadline = time.monotonic() + 60
    while not named("training"):
        assert time.monotonic() < deadline, "the run didn't start"
        time.sleep(0.1)
    pids = [event["pid"] for event in named("worker_warm")]
    assert len(pids) == 2
    driver.kill()
    driver.wait(10)
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.1)
