"""Does a real Ray job server take, keep, show and end our jobs, and are its refusals told before
anything starts?
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.cli import run
from launch.jobs.plan import Attach, JobPlan, Submit, exit_code_of, submission_name
from launch.jobs.server import JobServer
from orchestrator.errors import ConfigError

pytestmark = pytest.mark.turns(32, "whole runs")

DEADLINE_S = 90.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition didn't come true in time"
        time.sleep(0.1)


def plan(tmp_path: Path, script: str, **more: Any) -> JobPlan:
    (tmp_path / "script.py").write_text(script)
    values: dict[str, Any] = {
        "files": {"script.py": str(tmp_path / "script.py")},
        "metadata": {"by": "tfresume"},
        **more,
    }
    name = submission_name(str(tmp_path))
    return JobPlan(
        name=name,
        entrypoint="python script.py",
        run={"source": "s", "output": str(tmp_path)},
        **values,
    )


WAITS = """
import pathlib, sys, time, os
print("pid", os.getpid(), flush=True)
end = time.monotonic() + 120
while not pathlib.Path(sys.argv[0]).with_name("go").exists() and not pathlib.Path({flag!r}).exists():
    time.sleep(0.05)
    assert time.monotonic() < end
print("last line", flush=True)
"""


@pytest.mark.ray
class TestWithAServer:
    @pytest.fixture
    def server(self, job_server: str) -> JobServer:
        return JobServer(job_server)

    def test_submit_runs_the_job_in_its_working_directory_and_follow_shows_all_it_writes(
        self, server: JobServer, tmp_path: Path
    ) -> None:
        listed = "print(sorted(os.listdir('.')), yaml.safe_load(open('run.yaml'))['source'])"
        script = f"import os, yaml\n{listed}\nfor i in range(300): print('line', i)\n"
        outcome = server.submit(plan(tmp_path, script))
        assert isinstance(outcome, Submit)
        written: list[str] = []
        state = server.follow(outcome.submission_id, written.append)
        assert (state.status, exit_code_of(state)) == ("SUCCEEDED", 0)
        text = "".join(written)
        assert "['run.yaml', 'script.py'] s" in text
        assert [line for line in text.splitlines() if line.startswith("line ")] == [
            f"line {number}" for number in range(300)
        ]

    def test_submit_twice_attaches_and_after_the_end_starts_the_next(
        self, server: JobServer, tmp_path: Path
    ) -> None:
        flag = tmp_path / "finish"
        job = plan(tmp_path, WAITS.format(flag=str(flag)))
        first = server.submit(job)
        assert server.submit(job) == Attach(first.submission_id)
        flag.touch()
        until(lambda: not server.state(first.submission_id).active)
        second = server.submit(job)
        assert isinstance(second, Submit)
        assert second.submission_id.endswith("-0002")
        until(lambda: not server.state(second.submission_id).active)

    def test_submit_from_many_clients_at_once_starts_one_job(
        self, server: JobServer, tmp_path: Path
    ) -> None:
        flag = tmp_path / "finish"
        job = plan(tmp_path, WAITS.format(flag=str(flag)))
        outcomes: list[Attach | Submit] = []
        threads = [
            threading.Thread(target=lambda: outcomes.append(server.submit(job))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        flag.touch()
        assert {outcome.submission_id for outcome in outcomes} == {f"{job.name}-0001"}
        assert sum(isinstance(outcome, Submit) for outcome in outcomes) == 1
        until(lambda: not server.state(f"{job.name}-0001").active)

    @pytest.mark.parametrize("code", [1, 2, 143])
    def test_follow_of_a_driver_that_fails_ends_with_its_exit_code(
        self, server: JobServer, tmp_path: Path, code: int
    ) -> None:
        outcome = server.submit(
            plan(tmp_path, f"import sys; print('before the end'); sys.exit({code})")
        )
        written: list[str] = []
        state = server.follow(outcome.submission_id, written.append)
        assert (state.status, exit_code_of(state)) == ("FAILED", code)
        assert "before the end" in "".join(written)

    def test_follow_of_a_driver_that_is_killed_ends_with_a_failure(
        self, server: JobServer, tmp_path: Path
    ) -> None:
        outcome = server.submit(plan(tmp_path, WAITS.format(flag=str(tmp_path / "never"))))
        until(lambda: "pid" in server.logs(outcome.submission_id))
        pid = int(server.logs(outcome.submission_id).split("pid ")[1].split()[0])
        os.kill(pid, signal.SIGKILL)
        state = server.follow(outcome.submission_id, lambda text: None)
        assert state.status == "FAILED"
        assert exit_code_of(state) != 0

    def test_stop_ends_the_job_and_follow_says_143(self, server: JobServer, tmp_path: Path) -> None:
        outcome = server.submit(plan(tmp_path, WAITS.format(flag=str(tmp_path / "never"))))
        until(lambda: "pid" in server.logs(outcome.submission_id))
        server.stop(outcome.submission_id)
        state = server.follow(outcome.submission_id, lambda text: None)
        assert (state.status, exit_code_of(state)) == ("STOPPED", 143)

    def test_job_with_resources_for_its_driver_gets_them(
        self, server: JobServer, tmp_path: Path
    ) -> None:
        script = "import ray; ray.init(log_to_driver=False); print('free', ray.available_resources()['CPU'])"
        outcome = server.submit(plan(tmp_path, script, driver_cpus=3.0))
        written: list[str] = []
        assert server.follow(outcome.submission_id, written.append).status == "SUCCEEDED"
        assert "free 5.0" in "".join(written)

    def test_state_of_an_unknown_job_is_refused_with_where_to_look(self, server: JobServer) -> None:
        with pytest.raises(ConfigError, match="knows no job tfresume-absent-0001") as caught:
            server.state("tfresume-absent-0001")
        assert "tfresume status" in caught.value.remedy

    def test_metadata_and_entrypoint_of_a_submitted_run_hold_no_credential(
        self,
        job_server: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import urllib.request

        monkeypatch.chdir(tmp_path)
        secret = "planted0secret0value"
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        words = [
            "submit",
            "s3://nowhere/run",
            "--output",
            "s3://nowhere/out",
            "--feed",
            f"note={secret}",
            "--address",
            job_server,
            "--json",
        ]
        code = run(words)
        shown = capsys.readouterr()
        assert code == 0, shown.err
        with urllib.request.urlopen(
            f"{job_server}/api/jobs/{json.loads(shown.out)['job']}"
        ) as answer:
            known = answer.read().decode()
        assert "tfresume resume" in known
        assert secret not in known + shown.out + shown.err


def test_server_that_nobody_listens_at_is_refused_with_the_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert run(["submit", "s", "--output", "o", "--address", f"http://127.0.0.1:{port}"]) == 2
    shown = capsys.readouterr().err
    assert f"no job server answers at http://127.0.0.1:{port}" in shown
    assert "port-forward" in shown


@pytest.mark.parametrize("address", ["ray://head:10001", "http://", "auto://x"])
def test_server_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="isn't a job server's address"):
        JobServer(address)


class _Answering:
    """An HTTP server that gives one answer to everything."""

    def __init__(self, status: int, body: bytes) -> None:
        import http.server

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


VERSION = b'{"version": "4", "ray_version": "%s", "ray_commit": "x", "session_name": "s"}'


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"Unauthorized: Missing authentication token", "refuses this client"),
        (403, b"Forbidden: Invalid authentication token", "refuses this client"),
        (404, b"not found", "doesn't answer as a Ray job server"),
        (200, b"<html>", "doesn't answer as a Ray job server"),
        (200, VERSION % b"2.40.0", "runs Ray 2.40.0"),
    ],
)
def test_server_that_is_not_ours_to_use_is_refused_before_anything_is_sent(
    status: int, body: bytes, said: str
) -> None:
    with _Answering(status, body) as address, pytest.raises(ConfigError, match=said) as caught:
        JobServer(address)
    assert caught.value.remedy
