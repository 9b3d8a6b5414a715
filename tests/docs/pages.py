"""Which commands, files and links does the documentation hold?

Rule: a fenced ``sh`` block is run by a test as it stands. A comment on the line before it says
otherwise: ``<!-- test: exit 2 -->`` expects another exit code, ``<!-- test: ray -->``, ``tf``,
``onnx`` and ``kubectl`` need those, ``<!-- test: jobs -->`` is run against a real job server by
``tests/launch``, ``<!-- test: skip: REASON -->`` is only parsed. ``<!-- file: NAME -->`` before a
``python`` block makes it a file that the commands find in their directory.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
_MARK = re.compile(r"<!--\s*(test|file):\s*(.*?)\s*-->")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its mark and its text."""

    page: str
    line: int
    language: str
    mark: str
    value: str
    text: str

    @property
    def label(self) -> str:
        """``docs/spot.md:27``."""
        return f"{self.page}:{self.line}"

    @property
    def skip_reason(self) -> str:
        """Why it's only parsed; empty where it's run."""
        return (
            self.value.removeprefix("skip:").strip()
            if self.mark == "test" and self.value.startswith("skip:")
            else ""
        )

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """How it may end."""
        codes = (
            re.findall(r"\d+", self.value)
            if self.mark == "test" and self.value.startswith("exit")
            else []
        )
        return tuple(map(int, codes)) or (0,)

    @property
    def commands(self) -> list[list[str]]:
        """Its command lines as words; comments are left out, and so is what sends a command behind
        the next ones.
        """
        joined = self.text.replace("\\\n", " ")
        return [
            words
            for line in joined.splitlines()
            if (words := shlex.split(line.removesuffix("&"), comments=True))
        ]


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of one page."""
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    begin: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if begin is None:
            begin = number
            continue
        mark = _MARK.search(lines[begin - 1]) if begin else None
        kind, value = (mark[1], mark[2]) if mark else ("", "")
        text = "\n".join(lines[begin + 1 : number]) + "\n"
        found.append(
            Block(
                str(path.relative_to(ROOT)),
                begin + 1,
                lines[begin].strip("`").strip(),
                kind,
                value,
                text,
            )
        )
        begin = None
    return found


def all_blocks(language: str) -> list[Block]:
    """All blocks of a language in all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def links(path: Path) -> list[str]:
    """Where a page's links lead, without those to other sites."""
    return [
        target for target in _LINK.findall(path.read_text(encoding="utf-8")) if "://" not in target
    ]


def anchors(path: Path) -> set[str]:
    """What can be linked to in a page: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def code_spans(path: Path) -> list[str]:
    """What stands in single backticks."""
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)
