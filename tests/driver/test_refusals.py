"""Is everything refused that is wrong by the command line alone, by one list, without running the
user's code?
"""

from __future__ import annotations

import sys
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from launch.cli import run
from orchestrator.config import RunConfig, parse_config
from orchestrator.decide.room import crowded
from orchestrator.driver.refusals import CHECKS, check_crowd, check_input, refusals, refuse
from orchestrator.errors import ConfigError, PlacementError


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


def test_input_function_of_an_editable_install_is_found_where_its_import_hook_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "hooked" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "src" / "hooked" / "__init__.py").write_text("raise SystemExit('the code ran')\n")
    (package / "feeds.py").write_text("def batches(ctx): ...\n")

    class Hook:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            if name != "hooked":
                return None
            init = tmp_path / "src" / "hooked" / "__init__.py"
            return spec_from_file_location(
                name, init, submodule_search_locations=[str(init.parent)]
            )

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Hook])
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


def test_input_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "feeds.py"
    file.write_text("def batches(ctx:\n")
    with pytest.raises(ConfigError, match="isn't Python: SyntaxError"):
        check_input(config(input=f"{file}:batches"))


def test_crowd_on_this_machine_is_refused_with_what_it_has() -> None:
    with pytest.raises(
        PlacementError,
        match=r"64 workers of 1 CPUs each are too many for this machine: it has 2 CPUs and .* GB of",
    ) as refused:
        check_crowd(config(workers=64), machine_cpus=2)
    assert "--workers.cpus" in refused.value.remedy
    check_crowd(config(workers=64, address="auto"), machine_cpus=2)
    check_crowd(config(workers={"count": 64, "cpus": 0.1}), machine_cpus=2)


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
    assert [(item.code, item.severity) for item in refusals(config(**values))] == [(code, "error")]
    with pytest.raises(ConfigError):
        refuse(config(**values))
    assert code in dict(CHECKS)


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
