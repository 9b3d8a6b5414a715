"""Does the glossary give each word one meaning, and can it be found?"""

from __future__ import annotations

import re
from collections import Counter

from tests.docs.pages import PAGES, ROOT, links

GLOSSARY = ROOT / "docs" / "glossary.md"
WANTED = [
    "attempt",
    "barrier",
    "batch",
    "boundary",
    "checkpoint",
    "commit",
    "cut",
    "donor",
    "generation",
    "grant",
    "group",
    "heartbeat",
    "incident",
    "journal",
    "lease",
    "level",
    "lineage",
    "manifest",
    "member",
    "output",
    "rank",
    "run",
    "save",
    "seam",
    "slot",
    "source",
    "standby",
    "step",
    "worker",
]


def _section(heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without the table's own head."""
    text = GLOSSARY.read_text(encoding="utf-8")
    below = text.partition(f"{heading}\n")[2].partition("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in below.splitlines() if line.startswith("| ")][
        2:
    ]


def test_each_word_has_one_row_with_one_meaning_in_the_order_of_the_alphabet() -> None:
    rows = _section("# Glossary")
    assert {len(row) for row in rows} == {2}
    words = [row[0] for row in rows]
    assert words == sorted(set(words))


def test_words_that_the_design_rests_on_are_explained() -> None:
    words = {row[0] for row in _section("# Glossary")}
    assert [word for word in WANTED if word not in words] == []


def test_glossary_is_linked_from_where_readers_begin() -> None:
    beginnings = {"README.md", "CONTRIBUTING.md", "docs/README.md", "docs/architecture.md"}
    leading = {
        str(page.relative_to(ROOT))
        for page in PAGES
        if any((page.parent / link).resolve() == GLOSSARY for link in links(page))
    }
    assert beginnings <= leading


def test_names_that_sound_alike_are_those_of_modules() -> None:
    told = {name for row in _section("## Names that sound alike") for name in _names(row[0])}
    assert len(told) > 15
    assert sorted(told - _modules().keys()) == []


def test_names_that_are_told_to_stand_twice_do() -> None:
    twice = [
        _names(row[0])[-1]
        for row in _section("## Names that sound alike")
        if row[0].endswith("twice")
    ]
    assert len(twice) > 3
    assert {name: _modules()[name] for name in twice} == dict.fromkeys(twice, 2)


def _names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def _modules() -> Counter[str]:
    return Counter(
        path.stem for room in ("orchestrator", "launch") for path in (ROOT / room).rglob("*.py")
    )
