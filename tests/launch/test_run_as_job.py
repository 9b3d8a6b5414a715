"""Does a real run survive as a Ray job what an operator does to it: submit twice, kill the driver,
lose the job's supervisor, stop?
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch.cli import run
from launch.jobs.plan import submission_name
from launch.jobs.server import JobServer
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests.docs.pages import all_blocks
from tests.docs.shell import make_bucket, shell
from tests.graphs.library import CheckpointLibrary
from tests.launch.feeds import WITH_A_PAUSE

pytestmark = [
    pytest.mark.ray,
    pytest.mark.tf,
    pytest.mark.chaos,
    pytest.mark.turns(32, "whole runs"),
]

DEADLINE_S = 120.0
FIRST_STEP = 3
SECRET = "planted0secret0value0of0a0user"


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; its value."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} didn't happen within {DEADLINE_S:.0f} s"
        time.sleep(0.1)
    return found


class Submitted:
    """One run, submitted as a job from a directory of its own."""

    def __init__(
        self, directory: Path, source: Path, address: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.output = str(directory / "out")
        self.source, self.address, self.capsys = str(source), address, capsys
        self.server = JobServer(address)

    def submit(self, steps: int, *words: str) -> dict[str, Any]:
        """``tfresume submit``; its JSON answer."""
        self.capsys.readouterr()
        command = [
            "submit",
            self.source,
            "--output",
            self.output,
            "--until-step",
            str(FIRST_STEP + steps),
        ]
        words = words if "--workers" in words else ("--workers", "2", *words)
        code = run(
            [
                *command,
                "--save-steps",
                "50",
                "--input",
                "feeds.py:batches",
                "--address",
                self.address,
                "--json",
                *words,
            ]
        )
        shown = self.capsys.readouterr()
        assert code == 0, shown.err
        answer: dict[str, Any] = json.loads(shown.out)
        return answer

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The journal's events of one kind."""
        return [
            event
            for event in read_journal(open_location(self.output))
            if event.get("event") == kind
        ]

    def wait_for_training(self, attempt: int = 1) -> dict[str, Any]:
        """Until this attempt's workers train and have saved once; the attempt's first event."""

        def trains() -> dict[str, Any] | None:
            began = [event for event in self.events("attempt") if event["attempt"] == attempt]
            saved = [
                event for event in self.events("save_committed") if event["attempt"] == attempt
            ]
            return began[0] if began and saved else None

        found: dict[str, Any] = until(trains, f"training in attempt {attempt}")
        return found

    def end(self, job: str) -> tuple[str, int | None]:
        """Until the job ends; status and exit code."""
        state = self.server.follow(job, lambda text: None)
        return state.status, state.exit_code


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "feeds.py").write_text(WITH_A_PAUSE.format(seconds=0.02))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def submitted(
    directory: Path,
    tf1_checkpoint: CheckpointLibrary,
    job_server: str,
    capsys: pytest.CaptureFixture[str],
) -> Submitted:
    return Submitted(directory, tf1_checkpoint("mlp"), job_server, capsys)


def test_job_whose_driver_is_killed_goes_on_with_the_same_workers_and_ends_well(
    submitted: Submitted,
) -> None:
    job = submitted.submit(500)["job"]
    first = submitted.wait_for_training()
    again = submitted.submit(500)
    assert (again["status"], again["job"]) == ("attached", job)
    os.kill(first["pid"], signal.SIGKILL)
    assert submitted.end(job) == ("SUCCEEDED", 0)
    attempts = submitted.events("attempt")
    assert [event["attempt"] for event in attempts] == [1, 2]
    assert attempts[1]["adopted"] is True
    (finish,) = submitted.events("finish")
    assert (finish["outcome"], finish["step"]) == ("done", FIRST_STEP + 500)
    assert list_checkpoints(open_location(submitted.output))[0].step == FIRST_STEP + 500


def test_job_whose_supervisor_in_the_head_dies_is_submitted_anew_and_goes_on(
    submitted: Submitted,
) -> None:
    job = submitted.submit(500)["job"]
    first = submitted.wait_for_training()
    _kill_job_supervisor(first["pid"])
    until(lambda: not submitted.server.state(job).active, "the job's end")
    answer = submitted.submit(500)
    assert answer["status"] == "submitted"
    assert answer["job"] == f"{submission_name(submitted.output)}-0002"
    assert submitted.end(answer["job"]) == ("SUCCEEDED", 0)
    finish = submitted.events("finish")[-1]
    assert (finish["outcome"], finish["step"]) == ("done", FIRST_STEP + 500)
    assert len(submitted.events("attempt")) >= 2


def _kill_job_supervisor(driver_pid: int) -> None:
    """SIGKILL the actor that Ray runs the job's command under: the driver's nearest ancestor that
    is one of Ray's workers.
    """
    parents = psutil.Process(driver_pid).parents()
    (supervisor, *_) = [
        process for process in parents if "JobSupervisor" in " ".join(process.cmdline())
    ]
    supervisor.kill()


def test_stop_of_a_job_saves_at_its_step_and_ends_it_without_an_error(submitted: Submitted) -> None:
    job = submitted.submit(100_000)["job"]
    submitted.wait_for_training()
    submitted.capsys.readouterr()
    assert run(["stop", submitted.output, "--timeout-s", "60", "--json"]) == 0
    assert json.loads(submitted.capsys.readouterr().out)["state"] == "stopped"
    assert submitted.end(job)[0] == "SUCCEEDED"
    (finish,) = submitted.events("finish")
    assert finish["outcome"] == "stopped"
    assert list_checkpoints(open_location(submitted.output))[0].step == finish["step"]
    assert run(["logs", submitted.output, "--address", submitted.address]) == 0
    assert "generation 1" in submitted.capsys.readouterr().out


@pytest.mark.parametrize("trouble", ["too small a cluster", "an output that it can't write"])
def test_job_that_is_refused_ends_with_2_and_says_why_in_its_log(
    trouble: str, submitted: Submitted, tmp_path: Path
) -> None:
    if trouble == "too small a cluster":
        words, said = ["--workers", "50"], "room for"
    else:
        (tmp_path / "file").touch()
        submitted.output = str(tmp_path / "file" / "out")
        words, said = [], f"{submitted.output}"
    job = submitted.submit(5, *words)["job"]
    assert submitted.end(job) == ("FAILED", 2)
    log = submitted.server.logs(job)
    assert log.count("error:") == 1
    assert said in log.partition("error:")[2]
    assert "Traceback" not in log
    assert not Path(submitted.output).exists()


def test_credentials_of_the_environment_reach_neither_log_nor_journal_nor_report_nor_metadata(
    submitted: Submitted, monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    """A secret in the submitter's environment and one that the user's own code raises."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    body = (directory / "feeds.py").read_text()
    fails = f"    if ctx.step >= {FIRST_STEP}: raise ValueError('s3://AKIA1:{SECRET}@bucket/x is gone')\n"
    (directory / "feeds.py").write_text(
        body.replace("    while True:\n", fails + "    while True:\n")
    )
    job = submitted.submit(20)["job"]
    assert submitted.end(job)[0] == "FAILED"
    logs = submitted.server.logs(job)
    assert "is gone" in logs  # the user's own traceback is there, without what must not be
    with urllib.request.urlopen(f"{submitted.address}/api/jobs/{job}") as answer:
        metadata = answer.read().decode()
    report = directory / "report.html"
    assert run(["report", submitted.output, "-o", str(report)]) == 0
    assert run(["status", submitted.output]) == 0
    shown = submitted.capsys.readouterr()
    journal = json.dumps(read_journal(open_location(submitted.output)))
    everything = logs + metadata + report.read_text() + shown.out + shown.err + journal
    everything += "".join(
        file.read_text(errors="replace") for file in Path(submitted.output).rglob("*.json*")
    )
    assert SECRET not in everything


def test_readmes_commands_for_a_cluster_do_what_it_says(
    tf1_checkpoint: CheckpointLibrary, job_server: str, tmp_path: Path
) -> None:
    """``submit --follow``, plain ``ray job submit`` of the same run, which has nothing left to do,
    and ``stop``.
    """
    (block,) = [block for block in all_blocks("sh") if block.value == "jobs"]
    bucket, directory = make_bucket(tf1_checkpoint, tmp_path), tmp_path / "here"
    directory.mkdir()
    done = shell(block, bucket, directory, {"http://HEAD:8265": job_server})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    followed, _, plain = done.stdout.partition("Job submission server address")
    assert "generation 1: 2 workers" in followed
    assert "succeeded" in plain
    events = read_journal(open_location(str(bucket / "resumed")))
    assert [
        (event["attempt"], event["step"]) for event in events if event["event"] == "finish"
    ] == [(1, 6)]
    assert list_checkpoints(open_location(str(bucket / "resumed")))[0].step == 6
