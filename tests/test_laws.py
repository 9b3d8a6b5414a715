"""Do the laws that no single room owns hold? TensorFlow stays out of every process that doesn't
train; no foreign names in the product; a number carries its reason.
"""

from __future__ import annotations

import ast
import csv
import functools
import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

import pytest

from orchestrator.store.objects.location import open_location
from tests.launch.runs import recorded_run
from tests.sources import PRODUCT, ROOT, text, tree

WITHOUT_TENSORFLOW = "import sys; sys.modules['tensorflow'] = None; "


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


HEAVY = ("numpy", "ray", "tensorflow", "yaml", "pandas", "aiohttp", "requests", "google.protobuf")
HEAVY_ROOMS = tuple(
    f"orchestrator.{room}"
    for room in (
        *("config", "driver", "exports", "graph", "store.bundle", "training", "workers"),
        *("store.checkpoints.verification", "store.objects.manifest"),
    )
)
MODULES_OF_STATUS = 540
"""All that `status` imports is some 480 modules, Python's own included, in a third of a second of a
processor: a library that is imported besides brings a hundred and more.
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_status_of_a_live_run_imports_what_it_shows_and_nothing_else(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """A second is what a live run's status may take, imports and all."""
    recorded_run(open_location(str(tmp_path)))
    done = _python(
        "import sys\nfrom launch.cli import run\n"
        f"code = run(['status', {str(tmp_path)!r}, *{words!r}])\n"
        "print(code, *sorted(sys.modules), file=sys.stderr)"
    )
    code, *modules = done.stderr.splitlines()[-1].split()
    assert code == "0", done.stderr
    shown = () if not words else ("rich.table", "rich.live")
    heavy = tuple(f"{name}." for name in (*HEAVY, *HEAVY_ROOMS, *shown))
    assert [name for name in modules if f"{name}.".startswith(heavy)] == []
    assert "orchestrator.store.run.snapshots" in modules
    assert len(modules) <= MODULES_OF_STATUS


def test_product_code_names_nothing_of_the_third_party_checkpoints(corpus: Path) -> None:
    with (corpus / "corpus.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    foreign = {part for row in rows for part in row["repo"].split("/")} | {
        row["entry"] for row in rows
    }
    code = "\n".join(map(text, PRODUCT))
    common = {"horovod"}  # a library as well as a repository's name
    assert [name for name in sorted(foreign - common) if name in code] == []


def test_only_one_module_makes_files_in_a_directory_that_users_share() -> None:
    makers = re.compile(
        r"gettempdir|TemporaryDirectory|NamedTemporaryFile|TemporaryFile|mkstemp|mkdtemp"
    )
    found = {
        str(path.relative_to(ROOT))
        for path in PRODUCT
        if path.is_relative_to(ROOT / "orchestrator") and makers.search(text(path))
    }
    assert found == {"orchestrator/store/objects/private.py"}


def test_product_modules_are_found() -> None:
    assert len(PRODUCT) > 20


LONGEST = 300
"""Lines of a module of the product; what outgrows that answers more than one question."""


def test_module_of_the_product_is_not_too_long_to_answer_one_question() -> None:
    assert _too_long({"a.py": "\n" * LONGEST, "b.py": "\n" * (LONGEST + 1)}) == ["b.py: 301 lines"]
    assert _too_long({str(path.relative_to(ROOT)): text(path) for path in PRODUCT}) == []


def _too_long(sources: dict[str, str]) -> list[str]:
    lengths = {path: len(source.splitlines()) for path, source in sources.items()}
    return [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > LONGEST]


NOT_MODULES = {"workers.min", "workers.max", "workers.count", "graph.original_meta"}
"""Keys of the configuration and a field, which are written as a module's name would be."""


def test_module_that_a_docstring_names_exists() -> None:
    rooms = {path.name for path in (ROOT / "orchestrator").iterdir() if path.is_dir()}
    named = re.compile(r"``((?:" + "|".join(sorted(rooms)) + r")\.[\w.]+)``")
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in PRODUCT
        for name in named.findall(text(path))
        if name not in NOT_MODULES
    }
    assert len(found) > 20
    assert sorted((where, name) for where, name in found if not _is_there(name)) == []


def test_member_of_a_class_that_a_docstring_names_exists() -> None:
    classes = _classes(map(tree, PRODUCT))
    found = {
        (str(path.relative_to(ROOT)), kind, member)
        for path in PRODUCT
        for kind, member in re.findall(r"``(_?[A-Z]\w+)\.(\w+)", text(path))
        if kind in classes
    }
    assert len(found) > 20
    assert sorted(one for one in found if not _has(classes, *one[1:])) == []


def test_member_that_a_class_has_not_is_found_missing() -> None:
    base = "class Base:\n    size: int\n"
    derived = "class Kind(Base):\n    def begin(self) -> None: ...\n"
    classes = _classes(map(ast.parse, (base, derived)))
    known = [_has(classes, "Kind", member) for member in ("begin", "size", "end")]
    assert known == [True, True, False]


def _classes(modules: Iterable[ast.Module]) -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    bodies = [module.body for module in modules]
    while bodies:
        for node in bodies.pop():
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                bodies.append(node.body)
    return found


def _has(classes: dict[str, list[ast.ClassDef]], kind: str, member: str) -> bool:
    """Whether a class, or one that it is made from, speaks of ``member``."""
    return any(
        re.search(rf"\b{member}\b", _written(node))
        or any(_has(classes, ast.unparse(base), member) for base in node.bases)
        for node in classes.get(kind, ())
    )


@functools.cache
def _written(node: ast.ClassDef) -> str:
    """A class as code, for as many members as are looked for."""
    return ast.unparse(node)


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


def test_numbers_that_the_product_is_built_with_carry_their_reason() -> None:
    found = {str(path.relative_to(ROOT)): _constants(text(path), tree(path)) for path in PRODUCT}
    assert sum(map(len, found.values())) > 200
    assert [
        f"{path}: {name}"
        for path, constants in found.items()
        for name, explained in constants.items()
        if not explained
    ] == []


@pytest.mark.parametrize(
    ("source", "explained"),
    [
        ("WAIT_S = 3.0\n", False),
        ('WAIT_S = 3.0\nMOST = 4\n"""More hide the right one."""\n', False),
        ("# Of the module's own clock\n\nWAIT_S = 3.0\n", False),
        ("WAIT_S: Final = -3.0 * 60\n", False),
        ("FIRST_S, WAIT_S = 1.0, 3.0\n", False),
        ('WAIT_S = 3.0\n"""A store answers within one."""\n', True),
        ("# A store answers within one\nWAIT_S = 3.0\n", True),
        ("WAIT_S = 3.0  # a store answers within one\n", True),
    ],
)
def test_number_is_explained_by_its_own_docstring_or_comment(source: str, explained: bool) -> None:
    assert [told for name, told in _of(source).items() if "WAIT_S" in name] == [explained]


def test_text_and_tables_need_no_reason_as_numbers() -> None:
    assert _of("NAME = 'a'\nKINDS = {1: 'a'}\nON = True\n") == {}


def _of(source: str) -> dict[str, bool]:
    return _constants(source, ast.parse(source))


def _constants(source: str, syntax: ast.Module) -> dict[str, bool]:
    """Each numeric constant of a module, and whether it has a docstring or a comment of its own."""
    lines, body = source.splitlines(), syntax.body
    found: dict[str, bool] = {}
    for node, following in zip_longest(body, body[1:]):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not _is_number(node.value):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        before = lines[node.lineno - 2] if node.lineno > 1 else ""
        behind = lines[(node.end_lineno or node.lineno) - 1][node.end_col_offset :]
        found[", ".join(ast.unparse(target) for target in targets)] = (
            _is_text(following) or before.startswith("#") or behind.lstrip().startswith("#")
        )
    return found


def _is_number(value: ast.expr | None) -> bool:
    """A number, numbers in a row, or what is calculated from numbers that are written out."""
    match value:
        case ast.Constant(value=number):
            return isinstance(number, int | float) and not isinstance(number, bool)
        case ast.UnaryOp(operand=operand):
            return _is_number(operand)
        case ast.BinOp(left=left, right=right):
            return _is_number(left) and _is_number(right)
        case ast.Tuple(elts=elements):
            return any(_is_number(element) for element in elements)
        case _:
            return False


def _is_text(node: ast.stmt | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
