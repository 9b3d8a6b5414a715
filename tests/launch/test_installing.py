"""Can somebody who isn't us install this: its metadata, its words about it, its wheel, its help for
the shell?
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from launch.cli import run
from launch.versions import versions_text
from tests.launch.conftest import ray_environment
from tests.turns import quick_in_turn

pytestmark = pytest.mark.turns(32, "whole runs")

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")
HOME = Path.home()
BY_THE_CALENDAR = {"fsspec", "gcsfs", "s3fs", "adlfs", "stamina", "packaging"}


def test_every_dependency_shuts_out_the_next_major_version() -> None:
    of_users = [
        *PROJECT["dependencies"],
        *(
            item
            for name in ("s3", "azure", "gpu", "onnx")
            for item in PROJECT["optional-dependencies"][name]
        ),
    ]
    wanted = [Requirement(text) for text in of_users]
    assert len(wanted) > 12
    unbounded = {
        item.name for item in wanted if not any(one.operator == "<" for one in item.specifier)
    }
    assert unbounded <= BY_THE_CALENDAR


def test_requires_python_is_what_readme_makefile_and_classifiers_say() -> None:
    wanted = SpecifierSet(PROJECT["requires-python"])
    assert [version for version in ("3.10", *PYTHONS, "3.14", "4.0") if version in wanted] == [
        *PYTHONS
    ]
    named = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Python ::" in text]
    assert named == [*PYTHONS]
    assert "Python 3.11, 3.12 or 3.13" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        pytest.param(("python3.12", "python3.13"), "python3.12", id="the oldest that is there"),
        pytest.param(("python3.13",), "python3.13", id="the newest alone"),
        pytest.param((), "python3", id="none by its number"),
    ],
)
def test_makefile_takes_any_python_that_the_project_runs_on(
    there: tuple[str, ...], taken: str, tmp_path: Path
) -> None:
    for name in there:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    said = _commands_of_make("setup", path=str(tmp_path))
    named = re.findall(r"\|\| (\S+) -m venv", said)
    assert [Path(name).name for name in named] == [taken]


def test_wheel_is_built_by_pip_alone_from_nothing() -> None:
    said = _commands_of_make("wheel", path=os.environ["PATH"])
    assert re.search(r"-m venv absent\b", said)
    assert "-m pip wheel" in said
    assert "install" not in said, "what developing takes is gigabytes"


def _commands_of_make(target: str, path: str) -> str:
    """What ``make target`` would run where nothing is installed yet."""
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run(
        [make, "-n", "-B", target, "VENV=absent"],
        cwd=ROOT,
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def _texts() -> Iterator[Path]:
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))
    yield from (ROOT / "docs").rglob("*.md")
    for room in ("orchestrator", "launch", "k8s", "configs"):
        yield from (path for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".yaml"))


def test_nobody_is_told_to_install_our_name_from_an_index() -> None:
    from_index = re.compile(r"install\s+(?:-\S+\s+)*['\"]?tfresume\b")
    assert from_index.search("pip install 'tfresume[s3]'")
    assert not from_index.search("pip install -c constraints.txt dist/tfresume-0.1.0.whl")
    assert [
        str(path) for path in _texts() if from_index.search(path.read_text(encoding="utf-8"))
    ] == []


def test_projects_urls_are_of_a_name_that_is_reserved_for_examples() -> None:
    urls = PROJECT["urls"]
    assert {"Homepage", "Source", "Issues", "Changelog", "Security"} <= set(urls)
    assert all(url.startswith("https://tfresume.example.org/") for url in urls.values())


@pytest.mark.slow
def test_version_tells_dependencies_without_importing_them() -> None:
    script = (
        "import sys; from launch.cli import run; run(['--version'])\n"
        "print(sorted({'tensorflow', 'ray', 'numpy', 'gcsfs'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    first, *rows = done.stdout.splitlines()
    assert first == f"tfresume {PROJECT['version']}"
    told = dict(row.split(maxsplit=1) for row in rows)
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {Requirement(text).name for text in PROJECT["dependencies"]} <= set(told)
    assert all(re.match(r"\d", version) for version in told.values()), told
    assert done.stderr.strip() == "[]"


def test_version_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["absent-a>=1", "absent-b>=1; extra == 's3'", "absent-c; extra == 'dev'"]
    monkeypatch.setattr("launch.versions.requires", lambda _name: wanted)
    assert versions_text().splitlines()[2:] == ["  absent-a not installed"]


@pytest.mark.slow
def test_completion_for_bash_completes_commands_and_flags(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    asked = (
        'complete_() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _tfresume; '
        'echo "${COMPREPLY[@]}"; }\n'
        "complete_ tfresume re\ncomplete_ tfresume resume --unt\ncomplete_ tfresume render --ki\n"
    )
    done = subprocess.run(
        ["bash", "-uc", script + asked], capture_output=True, text=True, timeout=60, check=True
    )
    commands, until, kind = (set(line.split()) for line in done.stdout.splitlines())
    assert {"resume", "render", "report"} <= commands
    assert "resume" in commands
    assert "check" not in commands
    assert until == {"--until-step"}
    assert kind == {"--kind"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh isn't on this machine's PATH")
@pytest.mark.parametrize(
    "begin",
    [
        'autoload -Uz compinit; compinit -u -D; eval "$(<$1/_tfresume)"',
        "fpath=($1 $fpath); autoload -Uz compinit; compinit -u -D",
    ],
    ids=["evaluated", "a file of fpath"],
)
def test_completion_for_zsh_completes_as_it_is_installed(
    begin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["completion", "zsh"]) == 0
    (tmp_path / "_tfresume").write_text(capsys.readouterr().out)
    # What zsh calls at the tab; _arguments is the first that this project's function asks
    tab = '; _arguments() { print "asked: $*" }; "$_comps[tfresume]"; "$_comps[tfresume]"'
    done = subprocess.run(
        ["zsh", "-fc", begin + tab, "zsh", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == second
    assert "asked: -C --help" in first
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("shell", quick_in_turn(["zsh", "fish"], 2))
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in ("resume", "checkpoints", "completion"))


@pytest.mark.tf
@pytest.mark.ray
@pytest.mark.chaos
def test_wheel_installed_into_a_fresh_environment_runs_the_demo_and_its_report(
    tmp_path: Path,
) -> None:
    """The dependencies are this environment's, lent to the fresh one: they would be 2 GB again."""
    wheel = built_wheel(tmp_path)
    fresh = tmp_path / "fresh"
    venv.create(fresh)
    pip = [sys.executable, "-m", "pip", "--python", str(fresh / "bin/python")]
    _ran([*pip, "install", "-q", "--no-deps", str(wheel)], tmp_path)
    (packages,) = fresh.glob("lib/python3*/site-packages")
    lent = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "lent.pth").write_text(lent + "\n")
    resumed, environment = demo_in(fresh, tmp_path)
    page = tmp_path / "report.html"
    _ran(["tfresume", "report", resumed, "-o", str(page)], tmp_path, environment)
    assert "<script>" in page.read_text()


@pytest.mark.tf
@pytest.mark.ray
@pytest.mark.soak  # each other Python downloads and unpacks some two gigabytes
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", PYTHONS)
def test_wheel_runs_the_demo_under_every_python_that_is_there(version: str, tmp_path: Path) -> None:
    """With the dependencies of ``constraints.txt``, as README says to install them."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        pytest.skip(f"Python {version} is the one that runs all other tests")
    python = python_of(version)
    if python is None:
        pytest.skip(f"Python {version} isn't on this machine")
    wheel = built_wheel(tmp_path)
    fresh = tmp_path / "fresh"
    uv = str(Path(sys.executable).with_name("uv"))
    _ran([uv, "venv", "--python", str(python), str(fresh)], tmp_path)
    install = [uv, "pip", "install", "--python", str(fresh / "bin/python")]
    _ran([*install, "-c", str(ROOT / "constraints.txt"), str(wheel)], tmp_path, patience_s=900)
    _, environment = demo_in(fresh, tmp_path)
    told = _ran(["tfresume", "--version"], tmp_path, environment)
    assert re.search(rf"^  python +{re.escape(version)}\.", told, re.MULTILINE)
    shutil.rmtree(fresh)  # gigabytes, which pytest would keep for three more runs


def python_of(version: str) -> Path | None:
    """An interpreter of a version, on the path or where pyenv keeps its own."""
    found = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", HOME / ".pyenv"))
    here = [Path(found)] if found else []
    every = [*here, *pyenv.glob(f"versions/{version}.*/bin/python{version}")]
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    for each in every:
        done = subprocess.run([each, "-c", asked], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return each
    return None


def built_wheel(directory: Path) -> Path:
    """As ``make wheel`` builds it, from a copy of the sources."""
    source = directory / "source"
    named = ["pyproject.toml", "README.md", "LICENSE", "orchestrator", "launch"]
    for name in named:
        place, copied = ROOT / name, source / name
        if place.is_dir():
            shutil.copytree(place, copied, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copied.parent.mkdir(exist_ok=True)
            shutil.copy2(place, copied)
    (recipe,) = re.findall(
        r"^\t\$\(BIN\)/python -m pip wheel (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    _ran([sys.executable, "-m", "pip", "wheel", *recipe.split()], source)
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


def demo_in(fresh: Path, directory: Path) -> tuple[str, dict[str, str]]:
    """Run the demo of an environment that ours isn't; the output of its run, and the variables."""
    (packages,) = fresh.glob("lib/python3*/site-packages")
    home = directory / "home"
    home.mkdir()
    environment = ray_environment(home) | {
        "PATH": f"{fresh / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
    }
    where = "import launch, orchestrator; print(launch.__file__, orchestrator.__file__)"
    found = _ran([str(fresh / "bin/python"), "-c", where], directory, environment).split()
    assert all(file.startswith(str(packages)) for file in found)
    out = directory / "demo"
    _ran(["tfresume", "demo", "--directory", str(out)], directory, environment)
    (run_record,) = out.rglob("_tfresume/run.json")
    return str(run_record.parents[1]), environment


def _ran(
    words: list[str],
    directory: Path,
    environment: dict[str, str] | None = None,
    patience_s: float = 240,
) -> str:
    done = subprocess.run(
        words,
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience_s,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout
