"""Does ``resume`` refuse, plan in a dry run and answer as promised, before and after the driver's own part?"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from launch.cli import run
from launch.commands.resume import _tell_for_the_driver, or_crashed
from launch.supervisor import supervise
from launch.text.result_text import result_text
from orchestrator.config import parse_config
from orchestrator.decide.driver_restarts import CRASHED, End
from orchestrator.driver.result import RunResult
from tests.graphs.library import CheckpointLibrary
from tests.launch.journals import loss_of_rank_1


def text_of(result: RunResult, capsys: pytest.CaptureFixture[str]) -> str:
    from launch.terminal import answer_console

    answer_console().print(result_text(result))
    return capsys.readouterr().out


def test_resume_without_an_output_exits_2_before_anything_is_looked_at(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["resume", "gs://nowhere/run", "--steps", "5"]) == 2
    assert "--output is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--steps", "5", "--until-step", "9"],
        ["--workers", "0"],
        ["--workers", "1", "--workers.min", "2"],
    ],
)
def test_resume_with_flags_that_contradict_exits_2_and_names_them(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["resume", "s", "--output", "o", *words, "--json"]) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] == "refused"
    assert words[0].strip("-").split("-")[0].split(".")[0] in shown.err


@pytest.mark.tf
def test_resume_dry_run_shows_the_plan_and_writes_nothing(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    words = [
        "resume",
        str(tf1_checkpoint("mlp")),
        "--output",
        str(output),
        "--steps",
        "5",
        "--input",
        f"{tmp_path}/i.py:b",
    ]
    (tmp_path / "i.py").write_text("def b(ctx): ...\n")
    assert run([*words, "--workers", "2", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["status"], plan["start_step"], plan["until_step"]) == ("planned", 3, 8)
    assert {port["name"]: port["served_by"] for port in plan["inputs"]} == {
        "x:0": "input",
        "y:0": "input",
    }
    assert plan["exchange"] == 4
    assert not output.exists()


@pytest.mark.tf
def test_resume_dry_run_of_what_would_be_refused_exits_2(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "resume",
        str(tf1_checkpoint("mlp")),
        "--output",
        str(tmp_path / "out"),
        "--steps",
        "5",
        "--dry-run",
    ]
    assert run([*words, "--train-op", "absent"]) == 2
    assert "absent" in capsys.readouterr().err


def test_submit_dry_run_shows_what_would_be_sent_and_sends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feeds.py").write_text("")
    words = [
        "submit",
        "gs://b/run",
        "--output",
        "gs://b/more",
        "--steps",
        "5",
        "--input",
        "feeds.py:batches",
        "--pip",
        "scipy",
    ]
    assert run([*words, "--address", "http://nowhere.invalid:8265", "--dry-run", "--json"]) == 0
    job = json.loads(capsys.readouterr().out)["job"]
    assert job["files"] == {"feeds.py": str(tmp_path / "feeds.py")}
    assert job["runtime_env"] == {"pip": ["scipy"]}
    assert (job["run"]["input"], job["run"]["address"]) == ("feeds.py:batches", "auto")


def test_submit_without_a_job_servers_address_exits_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert run(["submit", "s", "--output", "o"]) == 2
    assert "job server" in capsys.readouterr().err


@pytest.mark.slow
def test_supervise_of_a_driver_that_is_killed_again_and_again_gives_up_and_says_so() -> None:
    ends: list[End] = []
    config = parse_config({"source": "s", "output": "o", "address": "auto"})

    def dies() -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert supervise(dies, config, gave_up=ends.append) == 1
    (end,) = ends
    assert "died 4 times" in end.reason


def test_supervise_of_a_driver_that_answers_itself_says_nothing_for_it() -> None:
    ends: list[End] = []
    config = parse_config({"source": "s", "output": "o", "address": "auto"})
    assert supervise(lambda: 2, config, gave_up=ends.append) == 2
    assert ends == []


def test_answer_for_a_driver_that_gave_none_is_one_json_object(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _tell_for_the_driver(End(1, "the driver died 4 times in a row"))
    answer = json.loads(capsys.readouterr().out)
    assert (answer["status"], answer["exit_code"], answer["error"]["kind"]) == (
        "failed",
        1,
        "RecoveryExhausted",
    )


def test_result_text_of_a_finished_run_says_where_the_checkpoint_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = text_of(
        RunResult(
            "done",
            3,
            53,
            "gs://b/more/a0001-g0001/m-53",
            2,
            loss_of_rank_1()[-1:],
            output="gs://b/more",
        ),
        capsys,
    )
    assert "done" in shown
    assert "steps 3 to 53 on 2 workers" in shown
    assert shown.count("gs://b/more/a0001-g0001/m-53") == 1
    assert "rank 1" in shown
    assert "same command" not in shown


def test_result_text_of_a_failed_run_shows_error_traceback_remedy_and_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = {
        "message": "batches() raised",
        "remedy": "Mend it",
        "details": {"traceback": "KeyError: 'x' in s3://AKIA1:geheim123@b/x"},
    }
    shown = text_of(RunResult("failed", 3, 10, None, 2, error=error, exit_code=1), capsys)
    for part in ("failed", "batches() raised", "KeyError", "Mend it", "the same command goes on"):
        assert part in shown
    assert "geheim123" not in shown


def test_resume_error_of_its_own_is_shown_and_leaves_the_answer_to_the_next_driver(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> int:
        raise KeyError("a bug")

    assert or_crashed(broken) == CRASHED
    shown = capsys.readouterr()
    assert shown.out == "", "one answer a run, from the driver that ends it"
    assert "KeyError: 'a bug'" in shown.err
