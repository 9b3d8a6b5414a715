"""What does ``evaluate`` refuse, and what does it submit?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launch.cli import run
from launch.commands.evaluate import EvaluateFlags
from launch.jobs.evaluation import evaluation_plan
from launch.jobs.plan import JobPlan
from orchestrator.config import parse_config
from tests.turns import quick_in_turn

NOBODY = "http://127.0.0.1:9"
"""A job server that isn't there: what is refused is refused before it's asked."""


@pytest.mark.parametrize(
    ("words", "told"),
    quick_in_turn(
        [
            (("--keep-best", "loss:min"), "needs --follow"),
            (("--follow", "--keep-best", "loss"), "METRIC:max"),
            (("--follow", "--step", "3"), "exclude each other"),
            (("--follow", "--every-s", "0"), "more than 0"),
            (("--follow", "--batches", "-1"), "--batches is -1"),
            (("--batches", "-1"), "--batches is -1"),
            (("--follow", "--name", "../up"), "can't be called"),
            (("--on-label", "role=evaluator"), "no cluster is named"),
            (("--address", "auto", "--on-resource", "eval=much"), "NAME=AMOUNT"),
            (("--address", "auto", "--on-label", "role"), "NAME=VALUE"),
            (("--step", "7"), "no checkpoint of step 7"),
            (("--from-step", "7"), "no checkpoint of step 7"),
            (("--from-step", "7", "--step", "7"), "--from-step name a checkpoint both"),
            (("--follow", "--from-step", "7"), "--follow evaluates each"),
            (("--address", NOBODY, "--keep-best", "loss:min"), "needs --follow"),
            (("--address", NOBODY, "--follow", "--keep-best", "loss"), "METRIC:max"),
            (("--address", NOBODY, "--follow", "--name", "../up"), "can't be called"),
            (("--address", NOBODY, "--on-label", "role"), "NAME=VALUE"),
            (("--address", NOBODY, "--from-step", "7", "--step", "7"), "name a checkpoint both"),
        ],
        3,
    ),
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


def test_two_evaluations_of_a_run_are_two_jobs_and_a_place_reads_the_same_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def planned(what: EvaluateFlags, source: str = "out", **more: Any) -> JobPlan:
        values = {"array": {"x:0": "x.npy"}, "batch_size": 4, **more}
        config = parse_config({**values, "source": source, "address": "http://head:8265"})
        return evaluation_plan(config, values, what)

    once = planned(EvaluateFlags())
    assert once.run["source"] == str(tmp_path / "out")
    assert once.run["array"] == {"x:0": str(tmp_path / "x.npy")}
    assert once.name == planned(EvaluateFlags(), f"file://{tmp_path}/out/").name
    others = (
        planned(EvaluateFlags(step=3)),
        planned(EvaluateFlags(), array={"x:0": "test.npy"}),
        planned(EvaluateFlags(), "out2"),
        planned(EvaluateFlags(follow=True)),
    )
    assert len({once.name, *(each.name for each in others)}) == 5
    follow = EvaluateFlags(follow=True)
    assert planned(follow).name == planned(follow, str(tmp_path / "out")).name


def test_input_function_that_reads_otherwise_by_now_is_another_question_and_the_same_evaluator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It attached to the job that asks the old one."""
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "feeds"
    package.mkdir()
    (package / "__init__.py").write_text("from feeds.heldout import batches\n")
    (package / "heldout.py").write_text("def batches(ctx): ...\n")
    given = {"input": "feeds:batches"}
    config = parse_config({**given, "source": "gs://b/run", "address": "http://head:8265"})

    def names() -> tuple[str, str]:
        once, follow = EvaluateFlags(), EvaluateFlags(follow=True)
        return (
            evaluation_plan(config, given, once).name,
            evaluation_plan(config, given, follow).name,
        )

    before = names()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "heldout.pyc").write_bytes(b"compiled")
    assert names() == before
    (package / "heldout.py").write_text("def batches(ctx): return []\n")
    once, follow = names()
    assert once != before[0]
    assert follow == before[1]
