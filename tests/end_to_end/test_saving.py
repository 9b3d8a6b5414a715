"""Do saves run behind the training of a real run, and is what they write the state of the step that
was agreed?
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.journal import read_journal
from tests.end_to_end import inputs
from tests.end_to_end.commands import assert_close, plain_variables, resumed, tfresume
from tests.graphs.library import CheckpointLibrary
from tests.servers.fault_proxy import FaultProxy
from tests.servers.programs import Server

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]

WITHIN_S = 90.0


def until(holds: Callable[[], object], what: str) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def steps_served(log: Path) -> int:
    """The last step that a worker asked a batch for."""
    return int(log.read_text().split()[-1]) if log.exists() and log.read_text().strip() else 0


def fetched(output: Location, label: str, folder: Path) -> Path:
    directory, _, prefix = label.partition("/")
    for file in output.child(directory).list():
        if file.name.startswith(f"{prefix}."):
            (folder / file.name).write_bytes(file.location.read_bytes())
    return folder / prefix


def test_upload_that_hangs_holds_up_no_step_and_saves_the_state_of_the_agreed_one(
    gcs_server: Server, tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    source, log = tf1_checkpoint("mlp", optimizer="sgd"), tmp_path / "steps"
    proxy = FaultProxy(("127.0.0.1", gcs_server.port))
    fault = proxy.spoil("hang", "POST", "model.ckpt-20.data", times=1000)
    output = gcs_server.url(f"saving-{tmp_path.name}")
    words = (
        source,
        "--output",
        output,
        "--workers",
        "1",
        "--until-step",
        "75",
        "--save-steps",
        "20",
    )
    settings = {"STORAGE_EMULATOR_HOST": proxy.endpoint, "TEST_STEP_LOG": str(log)}
    try:
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(
                resumed, *words, "--input", "tests.end_to_end.inputs:logged", env=settings
            )
            until(lambda: fault.fired or run.done(), "the upload never began")
            hung_at = steps_served(log)
            # The saves of steps 40 and 60 come due meanwhile; training ends, and the run waits for
            # the save that hangs
            until(
                lambda: steps_served(log) >= 74 or run.done(),
                f"training stands at {steps_served(log)}",
            )
            assert not run.done(), run.result()
            fault.end()
            result = run.result(WITHIN_S)
    finally:
        proxy.close()
    assert hung_at < 60, "no step was left to be done while the upload hung"
    assert (result["status"], result["final_step"], result["incidents"]) == ("done", 75, [])
    direct = gcs_server.environment()
    report = json.loads(tfresume("checkpoints", output, "--verify", "--json", env=direct).stdout)
    good = {row["step"]: row["label"] for row in report["checkpoints"] if row["state"] == "good"}
    assert {20, 75} <= set(good)
    assert 40 not in good, "it came due while the one before was under way for more than a second"
    where = open_location(output, **gcs_server.options())
    assert 40 in [
        event["step"] for event in read_journal(where) if event["event"] == "save_skipped"
    ]
    saved = plain_variables(fetched(where, good[20], tmp_path), tmp_path)
    assert_close(
        saved, plain_variables(source, tmp_path, [inputs.batch("mlp", step) for step in range(17)])
    )
