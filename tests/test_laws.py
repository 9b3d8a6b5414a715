"""Do the laws that no single room owns hold? TensorFlow stays out of every process that doesn't
train; no foreign names in the product.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = None; "
PRODUCT = sorted([*(ROOT / "orchestrator").rglob("*.py"), *(ROOT / "launch").rglob("*.py")])


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )


def test_blocker_of_tensorflow_really_blocks_it() -> None:
    done = _python(WITHOUT_TENSORFLOW + "import tensorflow")
    assert done.returncode != 0
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "orchestrator",
        "orchestrator.driver.main",
        "orchestrator.workers.fleet",
        "orchestrator.graph.plan",
        "orchestrator.store.checkpoints.commits",
    ],
)
def test_module_of_the_driver_imports_without_tensorflow(module: str) -> None:
    done = _python(WITHOUT_TENSORFLOW + f"import {module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--help"], "resume"),
        (["resume", "--help"], "--until-step"),
        (["config", "--explain"], "orphan_timeout_s"),
    ],
)
def test_command_line_answers_without_tensorflow(words: list[str], told: str) -> None:
    done = _python(
        WITHOUT_TENSORFLOW
        + f"from launch.cli import main; sys.argv = ['tfresume', *{words!r}]; main()"
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


def test_product_code_names_nothing_of_the_third_party_checkpoints(corpus: Path) -> None:
    with (corpus / "corpus.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    foreign = {part for row in rows for part in row["repo"].split("/")} | {
        row["entry"] for row in rows
    }
    text = "\n".join(path.read_text() for path in PRODUCT)
    common = {"horovod"}  # a library as well as a repository's name
    assert [name for name in sorted(foreign - common) if name in text] == []


def test_only_one_module_makes_files_in_a_directory_that_users_share() -> None:
    makers = re.compile(
        r"gettempdir|TemporaryDirectory|NamedTemporaryFile|TemporaryFile|mkstemp|mkdtemp"
    )
    found = {
        str(path.relative_to(ROOT))
        for path in PRODUCT
        if path.is_relative_to(ROOT / "orchestrator") and makers.search(path.read_text())
    }
    assert found == {"orchestrator/store/objects/private.py"}


def test_product_modules_are_found() -> None:
    assert len(PRODUCT) > 20


NOT_MODULES = {"workers.min", "workers.max", "graph.original_meta"}
"""Keys of the configuration and a field, which are written as a module's name would be."""


def test_module_that_a_docstring_names_exists() -> None:
    rooms = {path.name for path in (ROOT / "orchestrator").iterdir() if path.is_dir()}
    named = re.compile(r"``((?:" + "|".join(sorted(rooms)) + r")\.[\w.]+)``")
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in PRODUCT
        for name in named.findall(path.read_text())
        if name not in NOT_MODULES
    }
    assert len(found) > 20
    assert sorted((where, name) for where, name in found if not _is_there(name)) == []


def _is_there(name: str) -> bool:
    """Whether a dotted name below ``orchestrator`` is a room, a module, or a word of a module."""
    place = ROOT / "orchestrator"
    parts = name.split(".")
    for number, part in enumerate(parts):
        module = place / f"{part}.py"
        if module.exists():
            return all(
                re.search(rf"\b{word}\b", module.read_text()) for word in parts[number + 1 :]
            )
        place /= part
        if not place.is_dir():
            return False
    return True
