"""Is an input function that can't be there refused by its text, wherever it would be imported from?"""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver.refusals import (
    check_input,
)
from orchestrator.errors import ConfigError


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


def test_compiled_module_of_a_package_elsewhere_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was refused as one that can't be found."""
    package = tmp_path / "installed" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / f"feeds{EXTENSION_SUFFIXES[0]}").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    check_input(config(input="package.feeds:batches"))
    assert refused(input="package.others:batches").message.endswith("can't be found")


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
