"""Do the pages lead to files that exist, and "Where to look" to one for each real question?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import PAGES, ROOT

ARCHITECTURE = ROOT / "docs" / "architecture.md"
ALL_PAGES = (*PAGES, *sorted((ROOT / "docs" / "decisions").glob("*.md")))
ROWS_WANTED = 25
_PATH = re.compile(r"(?<![\w./-])(?:orchestrator|launch)/[\w./-]*\w")


def _rows() -> Iterator[tuple[str, list[str]]]:
    """Each question with the files that its row names."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    _, _, section = text.partition("\n## Where to look\n")
    table = section.partition("\n## ")[0]
    for line in table.splitlines():
        if line.startswith("| ") and not line.startswith(("| question |", "| --- ")):
            question, files = line.strip("| ").split(" | ")
            yield question, files.split(", ")


def test_where_to_look_answers_at_least_25_different_questions() -> None:
    questions = [question for question, _ in _rows()]
    assert len(questions) == len(set(questions)) >= ROWS_WANTED
    assert [question for question in questions if not question.endswith("?")] == []


def test_where_to_look_names_files_by_their_whole_path() -> None:
    wrong = [
        (question, file)
        for question, files in _rows()
        for file in files
        if not re.fullmatch(r"`[^`]+`", file) or not (ROOT / file.strip("`")).is_file()
    ]
    assert wrong == []


def test_every_path_of_the_product_that_a_page_names_exists() -> None:
    named = {
        (page.name, path)
        for page in ALL_PAGES
        for path in _PATH.findall(page.read_text(encoding="utf-8"))
    }
    assert len(named) >= ROWS_WANTED
    assert sorted((page, path) for page, path in named if not _stands_for(path)) == []


def _stands_for(path: str) -> bool:
    """Whether it is a file, a directory, or a module without its ending."""
    return (ROOT / path).exists() or Path(f"{ROOT / path}.py").exists()
