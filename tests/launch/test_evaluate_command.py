"""What does ``evaluate`` refuse, and what does it submit?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import run
from launch.commands.evaluate import EvaluateFlags
from launch.jobs.evaluation import evaluation_plan
from orchestrator.config import parse_config


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--keep-best", "loss:min"), "needs --follow"),
        (("--follow", "--keep-best", "loss"), "METRIC:max"),
        (("--follow", "--step", "3"), "exclude each other"),
        (("--follow", "--every-s", "0"), "more than 0"),
        (("--follow", "--name", "../up"), "can't be called"),
        (("--on-label", "role=evaluator"), "no cluster is named"),
        (("--address", "auto", "--on-resource", "eval=much"), "NAME=AMOUNT"),
        (("--address", "auto", "--on-label", "role"), "NAME=VALUE"),
        (("--step", "7"), "no checkpoint of step 7"),
    ],
)
def test_flags_that_mean_nothing_together_are_refused(
    words: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(tmp_path), *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert told in f"{error['message']} {error['remedy']}"
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_job_of_an_evaluator_has_its_flags_and_the_input_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heldout.py").write_text("def batches(ctx): ...\n")
    monkeypatch.chdir(tmp_path)
    given = {"input": "heldout.py:batches", "workers": {"count": 2}}
    config = parse_config({**given, "source": "gs://b/run", "address": "http://head:8265"})
    what = EvaluateFlags(
        fetch=["loss", "name scope/acc"],
        follow=True,
        keep_best="loss:min",
        on_label=["role=evaluator"],
    )
    plan = evaluation_plan(config, given, what)
    assert plan.entrypoint == (
        "tfresume evaluate --config run.yaml --fetch=loss '--fetch=name scope/acc' "
        "--on-label=role=evaluator --batches=0 --follow --name=eval --every-s=5 --keep-best=loss:min"
    )
    assert plan.run == {**given, "source": "gs://b/run", "address": "auto"}
    assert list(plan.files) == ["heldout.py"]
    other = EvaluateFlags(follow=True, name="train-set")
    assert plan.name.startswith("tfresume-evaluate-")
    assert plan.name != evaluation_plan(config, given, other).name
