"""What of a text may reach a terminal?

Rule: letters, line ends and tabs. Names of nodes, journal entries and workers' errors were written
by strangers, and a terminal obeys what it's sent: escapes clear the screen, set the window's title
or answer in the user's name; a carriage return or a change of the writing direction hides what
stands before it. Such characters are shown as Python writes them. Everything that this package
prints goes through `terminal`, which passes it through here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_KEPT = "\n\t"
_UNSAFE = frozenset(("Cc", "Cf", "Zl", "Zp", "Cs", "Co"))
"""Controls (C0, DEL, C1), formats (directions, invisible marks), line and paragraph separators,
lone surrogates, private use.
"""


def harmless(text: str) -> str:
    """``text`` with every character that a terminal would obey, or that nobody would see, written
    out; the line ends of DOS are line ends.

    >>> harmless("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written_out(letter) for letter in text.replace("\r\n", "\n"))


def _written_out(letter: str) -> str:
    if letter in _KEPT or letter.isprintable() or unicodedata.category(letter) not in _UNSAFE:
        return letter
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


class HarmlessConsole(Console):
    """A console that writes out what a terminal would obey: only rich's own styles and movements of
    the cursor are sent as such.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of ``renderable``, their texts harmless."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)
