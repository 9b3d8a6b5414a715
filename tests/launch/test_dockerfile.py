"""Does the Dockerfile name only what exists, pin what it takes, and fit what the manifests expect
of it?
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from launch.cli import build_app
from launch.render.pods import GROUP_ID, HOME, USER_ID
from launch.render.spec import IMAGE

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = {"python", "pip", "mkdir", "touch", "find", "rm", "groupadd", "useradd", "ln"}
"""Commands of the base image (Debian's own, and Python's)."""


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace(
        "\\\n", " "
    )
    rows = [line.strip().split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(row[0], row[1]) for row in rows]


def of(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def ignored(path: str) -> bool:
    """As .dockerignore has it: the last matching pattern decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if fnmatch.fnmatch(path, pattern) or (
            pattern.endswith("/**") and path.startswith(pattern[:-2])
        ):
            verdict = not line.startswith("!")
    return verdict


def copied() -> list[str]:
    return [word for rest in of("COPY") if "--from" not in rest for word in rest.split()[:-1]]


@pytest.mark.parametrize("path", copied())
def test_dockerfile_copies_what_exists_and_is_sent_to_the_engine(path: str) -> None:
    found = ROOT / path
    assert found.exists()
    files = (
        [found]
        if found.is_file()
        else [
            file for file in found.rglob("*") if file.is_file() and "__pycache__" not in file.parts
        ]
    )
    assert [str(file) for file in files if ignored(str(file.relative_to(ROOT)))] == []


def test_dockerignore_keeps_secrets_and_work_out() -> None:
    for path in (
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        ".env",
        "key.json",
        "launch/__pycache__/cli.pyc",
    ):
        assert ignored(path), path


@pytest.mark.parametrize("script", of("RUN"))
def test_dockerfile_runs_only_commands_that_are_there(script: str) -> None:
    for command in re.split(r"&&|;|\|", script):
        name = Path(shlex.split(command)[0]).name
        assert name in INSTALLED, name


def test_dockerfile_base_images_are_pinned_and_fit_the_package() -> None:
    (version,) = (rest.partition("=")[2] for rest in of("ARG") if rest.startswith("PYTHON_VERSION"))
    assert re.fullmatch(r"3\.\d+\.\d+", version)
    assert {rest.split()[0] for rest in of("FROM")} == {"python:${PYTHON_VERSION}-slim-bookworm"}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert SpecifierSet(wanted).contains(version)


def test_dockerfile_extras_exist_in_the_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = {
        item
        for text in re.findall(r"EXTRAS=([\w,]+)", (ROOT / "Dockerfile").read_text())
        for item in text.split(",")
    }
    assert named
    assert named <= set(extras)


def test_dockerfile_without_arguments_has_the_clients_of_every_storage_overlay() -> None:
    (extras,) = (rest.partition("=")[2] for rest in of("ARG") if rest.startswith("EXTRAS"))
    assert {"s3", "azure"} <= set(extras.split(","))


def test_dockerfile_user_and_home_are_those_of_the_manifests() -> None:
    assert of("USER") == [f"{USER_ID}:{GROUP_ID}"]
    assert of("WORKDIR")[-1] == HOME
    assert any(f"--uid {USER_ID}" in script and HOME in script for script in of("RUN"))


def test_dockerfile_entrypoint_is_the_projects_command_with_a_known_word() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = (json.loads(rest) for rest in of("ENTRYPOINT"))
    assert entry == [next(iter(scripts))]
    assert [json.loads(rest) for rest in of("CMD")] == [["--help"]]
    assert "demo" in build_app().resolved_commands()


def test_dockerfile_links_only_commands_that_the_package_installs() -> None:
    (script,) = (script for script in of("RUN") if script.startswith("ln "))
    links = [Path(word).name for word in script.split()[2:-1]]
    assert "tfresume" in links
    assert [name for name in links if not (Path(sys.executable).parent / name).exists()] == []


def test_dockerfile_tag_is_the_one_that_the_manifests_run() -> None:
    assert f"-t {IMAGE} ." in (ROOT / "Dockerfile").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"tfresume:{version}" == IMAGE


def test_image_and_manifests_agree_on_rays_version() -> None:
    from launch.render.spec import RAY_VERSION

    assert f"ray=={RAY_VERSION}\n" in (ROOT / "constraints.txt").read_text()
