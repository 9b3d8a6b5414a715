"""What is submitted for a run, under which name, and which secrets stay behind?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from launch.cli import run
from launch.jobs.job_status import merged, with_job
from launch.jobs.package import collected, working_directory
from launch.jobs.plan import (
    Attach,
    JobState,
    Submit,
    after_looking,
    exit_code_of,
    job_plan,
    newest,
    submission_name,
    variables,
)
from launch.jobs.spelling import one_spelling
from launch.runs.status import status
from launch.runs.status_model import RunStatus
from orchestrator.config import RunConfig, parse_config
from orchestrator.errors import ClusterUnavailable, ConfigError, OrchestratorError, SourceError
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import RunRecord, create_run_record

NAME = submission_name("gs://b/out")


def job(number: int, status: str, name: str = NAME) -> JobState:
    return JobState(f"{name}-{number:04d}", status)


@pytest.mark.parametrize(
    ("jobs", "decision"),
    [
        ([], Submit(f"{NAME}-0001")),
        ([job(1, "RUNNING")], Attach(f"{NAME}-0001")),
        ([job(1, "PENDING")], Attach(f"{NAME}-0001")),
        ([job(1, "FAILED")], Submit(f"{NAME}-0002")),
        ([job(1, "SUCCEEDED"), job(2, "STOPPED")], Submit(f"{NAME}-0003")),
        ([job(1, "FAILED"), job(2, "RUNNING")], Attach(f"{NAME}-0002")),
        ([job(7, "RUNNING", "tfresume-other")], Submit(f"{NAME}-0001")),
        ([JobState(f"{NAME}-mine", "RUNNING")], Submit(f"{NAME}-0001")),
    ],
)
def test_after_looking_attaches_to_what_runs_and_numbers_what_is_new(
    jobs: list[JobState], decision: Attach | Submit
) -> None:
    assert after_looking(NAME, jobs) == decision


@given(
    st.lists(st.sampled_from(["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]), max_size=9)
)
def test_after_looking_never_submits_beside_a_running_job_or_under_a_used_name(
    statuses: list[str],
) -> None:
    jobs = [job(number, status) for number, status in enumerate(statuses, 1)]
    decision = after_looking(NAME, jobs)
    assert isinstance(decision, Attach) == any(one.active for one in jobs)
    assert (decision.submission_id in {one.submission_id for one in jobs}) == isinstance(
        decision, Attach
    )


def test_newest_is_the_highest_number_and_not_the_last_in_the_list() -> None:
    assert newest(NAME, [job(10, "FAILED"), job(2, "RUNNING")]) == job(10, "FAILED")
    assert newest(NAME, [job(1, "FAILED", "tfresume-x")]) is None


def test_submission_name_is_the_same_with_and_without_a_trailing_slash() -> None:
    assert submission_name("gs://b/out/") == NAME != submission_name("gs://b/out2")


@pytest.mark.parametrize(
    ("status", "own", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", None, 1),
        ("FAILED", 143, 143),
        ("STOPPED", None, 143),
    ],
)
def test_exit_code_of_a_job_is_its_drivers_own(status: str, own: int | None, code: int) -> None:
    assert exit_code_of(JobState("x", status, exit_code=own)) == code


def test_job_plan_ships_the_runs_keys_with_the_clusters_own_address() -> None:
    values = {
        "source": "gs://b/run",
        "output": "gs://b/out",
        "steps": 5,
        "address": "http://head:8265",
    }
    plan = job_plan(parse_config(values), values, {})
    assert plan.run == {**values, "address": "auto"}
    assert plan.entrypoint == "tfresume resume --config run.yaml"


def test_job_plan_without_an_output_is_refused() -> None:
    with pytest.raises(ConfigError, match="--output"):
        job_plan(parse_config({"source": "gs://b/run"}), {}, {})


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_SECRET_ACCESS_KEY": "abc"},
        {"MY_TOKEN": "1"},
        {"PROXY": "http://me:geheim123@proxy:80"},
    ],
)
def test_job_plan_with_a_secret_variable_is_refused_by_name_without_its_value(
    environment: dict[str, str],
) -> None:
    with pytest.raises(ConfigError) as caught:
        job_plan(parse_config({"source": "s", "output": "o"}), {}, {}, environment=environment)
    assert next(iter(environment)) in caught.value.message
    assert "geheim123" not in str(caught.value)


def test_job_plan_metadata_hides_credentials_in_urls() -> None:
    # ``parse_config`` refuses these; whoever makes a configuration without it is covered too
    plan = job_plan(
        RunConfig(source="s3://AKIA1:geheim123@b/x", output="s3://AKIA1:geheim123@b/y"), {}, {}
    )
    assert "geheim123" not in str(plan.metadata) + plan.entrypoint + plan.name


def test_variables_take_the_value_from_here_or_from_the_flag() -> None:
    assert variables(["A=1", "B", "C=x=y"], {"B": "2"}) == {"A": "1", "B": "2", "C": "x=y"}


@pytest.mark.parametrize("pair", ["=1", "1A=2", "ABSENT", ""])
def test_variables_that_cannot_be_set_are_refused(pair: str) -> None:
    with pytest.raises(ConfigError, match="--env"):
        variables([pair], {})


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "my_inputs.py").write_text("def batches(ctx): ...\n")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "feeds.py").write_text("def batches(ctx): ...\n")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "ops.so").write_bytes(b"\x7fELF")
    return tmp_path


def test_collected_ships_the_input_file_and_names_it_as_it_will_lie_there(home: Path) -> None:
    run, files = collected({"input": "code/feeds.py:batches"}, home)
    assert run["input"] == "feeds.py:batches"
    assert files == {"feeds.py": str(home / "code" / "feeds.py")}


def test_collected_ships_modules_and_packages_that_live_here(home: Path) -> None:
    run, files = collected(
        {
            "input": "my_inputs:batches",
            "import_modules": ["my_package.ops"],
            "py_func": {"t": "my_inputs:f"},
        },
        home,
    )
    assert run == {
        "input": "my_inputs:batches",
        "import_modules": ["my_package.ops"],
        "py_func": {"t": "my_inputs:f"},
    }
    assert files == {
        "my_inputs.py": str(home / "my_inputs.py"),
        "my_package": str(home / "my_package"),
    }


def test_collected_leaves_installed_and_unknown_modules_to_the_clusters_image(home: Path) -> None:
    assert (
        collected({"input": "json:loads", "import_modules": ["numpy", "only_in_the_image"]}, home)[
            1
        ]
        == {}
    )


def test_collected_ships_local_operation_libraries_only(home: Path) -> None:
    run, files = collected({"load_op_library": ["ops.so", "/opt/in-the-image.so"]}, home)
    assert run["load_op_library"] == ["ops.so", "/opt/in-the-image.so"]
    assert set(files) == {"ops.so"}


@pytest.mark.parametrize(
    ("run", "extra", "said"),
    [
        ({"input": "absent.py:batches"}, [], "there is no"),
        ({}, ["absent"], "--ship"),
        ({"input": "my_inputs.py:b"}, ["code/my_inputs.py"], "two things to ship"),
        ({}, ["run.yaml"], "two things to ship"),
    ],
)
def test_collected_refuses_what_is_missing_or_doubled(
    home: Path, run: dict[str, str], extra: list[str], said: str
) -> None:
    (home / "code" / "my_inputs.py").write_text("")
    (home / "run.yaml").write_text("")
    with pytest.raises(ConfigError, match=said):
        collected(run, home, extra)


def test_collected_refuses_more_than_a_job_takes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.jobs.package.LARGEST_BYTES", 3)
    with pytest.raises(ConfigError, match="bucket"):
        collected({}, home, ["ops.so"])


def test_working_directory_holds_the_configuration_and_what_is_shipped_and_goes_away(
    home: Path,
) -> None:
    (home / "my_package" / "__pycache__").mkdir()
    values = {
        "source": "gs://b/run",
        "output": "gs://b/out",
        "input": "my_inputs.py:batches",
        "import_modules": ["my_package"],
    }
    run, files = collected(values, home)
    with working_directory(job_plan(parse_config(values), run, files)) as directory:
        assert sorted(str(file.relative_to(directory)) for file in directory.rglob("*")) == [
            "my_inputs.py",
            "my_package",
            "my_package/__init__.py",
            "run.yaml",
        ]
        assert (
            parse_config(yaml.safe_load((directory / "run.yaml").read_text())).input
            == "my_inputs.py:batches"
        )
    assert not directory.exists()


@pytest.mark.parametrize(
    ("url", "one"),
    [
        ("out", "/here/out"),
        ("./out/", "/here/out"),
        ("../x//out", "/x/out"),
        ("/data/out/", "/data/out"),
        ("file:///data/out", "/data/out"),
        ("gs://b/out/", "gs://b/out"),
        ("gcs://b/out", "gs://b/out"),
        ("s3a://b/out", "s3://b/out"),
        ("abfs://b/out", "az://b/out"),
        ("abfss://b@account.dfs.core.windows.net/out", "az://b@account.dfs.core.windows.net/out"),
        ("gs://b//out", "gs://b//out"),
        ("simplecache::gs://b/out/", "simplecache::gs://b/out/"),
    ],
)
def test_place_has_one_spelling_wherever_it_is_read(url: str, one: str) -> None:
    assert one_spelling(url, Path("/here")) == one


def test_submit_of_relative_paths_sends_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["submit", "old/m-5", "--output", "new/", "--steps", "1", "--dry-run", "--json"]
    arrays = ["--array", "x:0=d.npz#x", "--batch-size", "2", "--meta", "g.meta"]
    assert run([*words, *arrays, "--address", "http://head:8265"]) == 0
    job = json.loads(capsys.readouterr().out)["job"]
    assert job["name"] == submission_name(str(tmp_path / "new"))
    assert {key: job["run"][key] for key in ("source", "output", "meta")} == {
        "source": str(tmp_path / "old/m-5"),
        "output": str(tmp_path / "new"),
        "meta": str(tmp_path / "g.meta"),
    }
    assert job["run"]["array"] == {"x:0": f"{tmp_path}/d.npz#x"}


def test_job_that_failed_before_its_run_began_is_what_status_tells(tmp_path: Path) -> None:
    def look() -> RunStatus:
        return status(str(tmp_path / "nothing"))

    failed = JobState(f"{NAME}-0001", "FAILED", "the image can't be pulled", 1)
    found = merged("gs://b/out", "http://head:8265", lambda: failed, look)
    assert (found.state, found.step) == ("failed", None)
    assert "the image can't be pulled" in found.reason
    assert found.job is not None
    assert found.job["logs"] == "tfresume logs gs://b/out --address http://head:8265"
    with pytest.raises(SourceError, match="there is no run"):
        merged("gs://b/out", "http://head:8265", lambda: None, look)


@pytest.mark.parametrize("error", [ClusterUnavailable("it's gone"), ConfigError("it's gone")])
def test_run_is_told_of_where_its_job_server_is_gone(
    error: OrchestratorError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def server(_: str) -> object:
        raise error

    monkeypatch.setattr("launch.jobs.job_status.JobServer", server)
    output = open_location(str(tmp_path / "run"))
    create_run_record(
        output, RunRecord(source="gs://b/run", fingerprint="f", name="m", started_step=7)
    )
    found = with_job(output.url, "http://head:8265", lambda: status(output.url))
    assert (found.state, found.step, found.job) == ("not started", 7, None)
    assert found.trouble == ("it's gone",)
    nothing = str(tmp_path / "nothing")
    with pytest.raises(type(error), match="it's gone"):
        with_job(nothing, "http://head:8265", lambda: status(nothing))
