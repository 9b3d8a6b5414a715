"""Is everything refused that is wrong by the command line alone, by one list, without running the
user's code?
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launch.cli import run
from orchestrator.config import RunConfig, parse_config
from orchestrator.decide.room import crowded
from orchestrator.driver.refusals import (
    CHECKS,
    check_crowd,
    check_input,
    refusals,
    refuse,
    saves_changed_rows,
)
from orchestrator.errors import ConfigError, PlacementError
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.graph.worker_tables import ShardedPart, ShardedTables


def config(**values: Any) -> RunConfig:
    return parse_config({"source": "s", "output": "o", "steps": 1, **values})


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("def batches(ctx): ...", True),
        ("async def batches(ctx): ...", True),
        ("batches = lambda ctx: ()", True),
        ("from elsewhere import make as batches", True),
        ("from elsewhere import *", True),
        ("if True:\n    def batches(ctx): ...\nelse:\n    batches = None", True),
        ("try:\n    import batches\nexcept ImportError:\n    raise", True),
        ("(other, batches) = 1, 2", True),
        ("globals().update(batches=1)", True),
        ("def __getattr__(name): ...", True),
        ("class batches: ...", True),
        ("import make as batches", True),
        ("import batches.inner", True),
        ("for batches in (): ...", True),
        ("with open('x') as batches: ...", True),
        ("while False:\n    if True:\n        def batches(ctx): ...", True),
        ("import inner.batches", False),
        ("import batches as others", False),
        ("def others(ctx):\n    def batches(): ...", False),
        ("print", False),
        ("def batch(ctx): ...", False),
        ("class Feed:\n    def batches(self): ...", False),
        ("batches.attribute = 1", False),
    ],
)
def test_input_function_is_looked_for_in_its_files_text(
    text: str, is_there: bool, tmp_path: Path
) -> None:
    file = tmp_path / "feeds.py"
    file.write_text(f"raise SystemExit('the code ran')\n{text}\n")
    if is_there:
        check_input(config(input=f"{file}:batches"))
    else:
        with pytest.raises(ConfigError, match="defines no batches"):
            check_input(config(input=f"{file}:batches"))


def test_path_with_a_colon_is_a_path(tmp_path: Path) -> None:
    file = tmp_path / "a:b" / "feeds.py"
    file.parent.mkdir()
    file.write_text("def batches(ctx): ...")
    check_input(config(input=f"{file}:batches"))


def hooked(monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None) -> None:
    """An import hook as an editable install's, which knows one module that isn't on the path."""

    class Hook:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            return spec if spec is not None and name == spec.name else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Hook])


@pytest.mark.parametrize("name", ["elsewhere.py", "elsewhere.so"])
def test_input_function_of_a_single_module_is_looked_for_where_its_import_hook_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / name
    file.write_text("def batches(ctx): ...\n")
    hooked(monkeypatch, spec_from_file_location("hooked", file, loader=SourceFileLoader("h", "h")))
    check_input(config(input="hooked:batches"))
    if name.endswith(".so"):
        check_input(config(input="hooked:batch"))  # what is compiled can't be read
    else:
        assert refused(input="hooked:batch").remedy == "It defines batches"


def test_input_function_of_an_editable_install_is_found_where_its_import_hook_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "hooked" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "src" / "hooked" / "__init__.py").write_text("raise SystemExit('the code ran')\n")
    (package / "feeds.py").write_text("def batches(ctx): ...\n")

    init = tmp_path / "src" / "hooked" / "__init__.py"
    places = [str(init.parent)]
    hooked(monkeypatch, spec_from_file_location("hooked", init, submodule_search_locations=places))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    check_input(config(input="hooked.inner.feeds:batches"))
    with pytest.raises(ConfigError, match="defines no batch"):
        check_input(config(input="hooked.inner.feeds:batch"))


def test_input_function_of_a_module_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mine" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "mine" / "__init__.py").write_text("raise SystemExit('the code ran')\n")
    (package / "feeds.py").write_text("def batches(ctx): ...\n")
    monkeypatch.chdir(tmp_path)
    check_input(config(input="mine.inner.feeds:batches"))
    with pytest.raises(ConfigError, match=r"defines no batch\b.*It defines batches"):
        check_input(config(input="mine.inner.feeds:batch"))
    with pytest.raises(ConfigError, match="nowhere can't be found"):
        check_input(config(input="nowhere:batches"))


def refused(**values: Any) -> ConfigError:
    with pytest.raises(ConfigError) as found:
        check_input(config(**values))
    return found.value


def test_input_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "feeds.py"
    reference = f"{file}:batches"
    for text in (b"def batches(ctx:\n", b"\0"):
        file.write_bytes(text)
        error = refused(input=reference)
        assert error.message.startswith(f"--input {reference}: {file} isn't Python: SyntaxError: ")
        assert text == b"\0" or "(feeds.py, line 1)" in error.message
        assert error.remedy == "Correct the place that it names"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("def b(ctx): ...\ndef a(ctx): ...\nclass C: ...", "It defines a, b"),
        ("class C: ...", "Define it at the file's top level"),
    ],
)
def test_file_without_the_function_is_refused_with_those_that_it_has(
    tmp_path: Path, text: str, remedy: str
) -> None:
    file = tmp_path / "feeds.py"
    file.write_text(text)
    error = refused(input=f"{file}:batches")
    assert error.message == f"--input {file}:batches: {file} defines no batches"
    assert error.remedy == remedy


@pytest.mark.parametrize("address", [None, "auto"])
@pytest.mark.parametrize("text", ["feeds", ":batches", "feeds:", "feeds:1st", "a:b:", "feeds:a.b"])
def test_reference_of_another_form_is_refused_wherever_the_workers_are(
    text: str, address: str | None
) -> None:
    error = refused(input=text, address=address)
    assert error.message == f"--input {text!r} isn't of the form MODULE:FUNCTION"
    assert error.remedy == "Write MODULE:FUNCTION or PATH.py:FUNCTION"


@pytest.mark.parametrize(
    "module", ["nowhere", "nowhere.inner", "nowhere.py", "sys.nowhere", "directory.py"]
)
def test_input_that_is_not_here_is_refused_unless_other_machines_may_have_it(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "directory").mkdir()
    monkeypatch.chdir(tmp_path)
    error = refused(input=f"{module}:batches")
    assert error.message == f"--input {module}:batches: {module} can't be found"
    assert error.remedy == "Check the name, or give the path of its .py file"
    check_input(config(input=f"{module}:batches", address="auto"))


@pytest.mark.parametrize("module", ["time", "loose.inner", "loose"])
def test_module_without_a_text_of_its_own_is_believed(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is compiled, or a part of a directory without an ``__init__.py``."""
    (tmp_path / "loose").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    check_input(config(input=f"{module}:batches"))


@pytest.mark.parametrize("here", [True, False], ids=["in the directory", "on the path"])
@pytest.mark.parametrize("name", ["feeds.py", "feeds/__init__.py"])
def test_input_function_of_a_module_at_the_top_is_looked_for_where_it_would_be_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, here: bool
) -> None:
    file, elsewhere = tmp_path / "place" / name, tmp_path / "elsewhere"
    for directory in (file.parent, elsewhere):
        directory.mkdir(parents=True)
    file.write_text("def batches(ctx): ...\n")
    monkeypatch.chdir(tmp_path / "place" if here else elsewhere)
    monkeypatch.setattr(sys, "path", [*sys.path, *([] if here else [str(tmp_path / "place")])])
    check_input(config(input="feeds:batches"))
    assert refused(input="feeds:batch").remedy == "It defines batches"


def test_module_is_first_looked_for_in_the_directory_that_the_command_is_given_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, function in (("here", "batches"), ("there", "others")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "feeds.py").write_text(f"def {function}(ctx): ...\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "there")
    check_input(config(input="feeds:batches"))


def test_crowd_on_this_machine_is_refused_with_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=3.14e9))
    with pytest.raises(PlacementError) as refused:
        check_crowd(config(workers={"count": 60, "max": 62, "standby": 2}), machine_cpus=2)
    assert refused.value.message == (
        "64 workers of 1 CPUs each are too many for this machine: it has 2 CPUs and 3.1 GB of free memory, "
        "and each worker is a process with TensorFlow in it (0.5 GB and the model)"
    )
    assert refused.value.remedy == (
        "Ask for 2 workers, give each less (--workers.cpus), or name a cluster with --address"
    )
    assert refused.value.details == {"cpus": 2, "wanted": 64}
    check_crowd(config(workers=64, address="auto"), machine_cpus=2)
    check_crowd(config(workers=64, wait=True), machine_cpus=2)
    check_crowd(config(workers={"count": 64, "cpus": 0.1}), machine_cpus=2)


@pytest.mark.parametrize(("cpus", "there"), [(3, 3), (None, 1)])
def test_crowd_is_told_by_the_cpus_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, cpus: int | None, there: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    with pytest.raises(PlacementError, match=f"it has {there} CPUs"):
        check_crowd(config(workers=64))


@pytest.mark.parametrize(
    ("workers", "cpus", "machine", "is_crowded"),
    [(3, 1, 2, False), (8, 1, 2, False), (9, 1, 2, True), (8, 1, 1, False)],
)
def test_crowded_machine_is_one_that_is_asked_for_several_times_its_cpus(
    workers: int, cpus: float, machine: int, is_crowded: bool
) -> None:
    assert crowded(workers, cpus, machine) is is_crowded


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"input": "nowhere:x"}, "input"),
        ({"steps": None}, "no-end"),
        ({"workers": 10_000}, "no-room"),
    ],
)
def test_check_reports_as_an_error_what_resume_refuses(values: dict[str, Any], code: str) -> None:
    (problem,) = refusals(config(**values))
    with pytest.raises(ConfigError) as refused:
        refuse(config(**values))
    error = refused.value
    assert problem == Problem(code, "error", error.message, error.remedy)
    assert code in dict(CHECKS)


@pytest.mark.parametrize("end", [{"steps": 5}, {"steps": None, "until_step": 5}])
def test_command_with_either_end_is_refused_nothing(end: dict[str, Any]) -> None:
    assert refusals(config(**end)) == ()
    refuse(config(**end))


def test_check_of_a_source_alone_only_says_that_a_run_needs_an_end() -> None:
    assert [(item.code, item.severity) for item in refusals(config(output="", steps=None))] == [
        ("no-end", "warning")
    ]


def test_resume_command_refuses_a_crowd_before_a_ray_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "launch.supervisor.LocalRay", lambda *_args: pytest.fail("a Ray was started")
    )
    assert run(["resume", "s", "--output", "o", "--steps", "1", "--workers", "10000"]) == 2
    assert "are too many for this machine" in capsys.readouterr().err


DIVIDED = ShardedTables((ShardedPart("t", "t", ("t",), 4, (2,), "first", "count"),))


@pytest.mark.parametrize("asked", [False, True])
def test_changed_rows_are_saved_where_that_was_asked_for(asked: bool) -> None:
    graph = WorkerGraph(b"", b"", (), (), (), tables=DIVIDED)
    assert saves_changed_rows(config(save_changed_rows=asked), graph) is asked


def test_changed_rows_of_a_graph_without_divided_tables_are_refused() -> None:
    graph = WorkerGraph(b"", b"", (), (), ())
    assert saves_changed_rows(config(), graph) is False
    with pytest.raises(ConfigError) as refused:
        saves_changed_rows(config(save_changed_rows=True), graph)
    assert refused.value.message == (
        "--save-changed-rows saves rows of tables that are divided among the workers, and none is"
    )
    assert refused.value.remedy.startswith("Divide some (--shard-tables NAME; ")
    assert refused.value.remedy.endswith(", or leave --save-changed-rows out")
