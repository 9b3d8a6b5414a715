"""How much of a foreign error's text may be written down?

Rule: its first line, shortened, without TensorFlow's debug string: some of its messages hold whole
batches, which belong into no journal.
"""

from __future__ import annotations

import traceback

LONGEST_TEXT = 200
"""A line that a person reads; the whole text is in the worker's log."""


def last_line(error: BaseException) -> str:
    """Type and text of an error, shortened."""
    return short(traceback.format_exception_only(error)[-1])


def short(text: str) -> str:
    """The part of a text that may be written down."""
    first = text.strip().partition("\n")[0].partition("goo.gle/debugstr")[0].strip()
    return first if len(first) <= LONGEST_TEXT else f"{first[:LONGEST_TEXT]}…"
