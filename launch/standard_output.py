"""How does an answer reach standard output, and what if it can't?

Rule: every answer goes through ``write_answer``. A reader who has seen enough (``| head -1``) ends
the command without a word, as `grep` ends; a file that can't be written (a full disk) is an error
that says so, and never a traceback.
"""

from __future__ import annotations

import os
import re
import sys

from orchestrator.errors import AnswerNotWritten


def write_answer(text: str) -> None:
    """Write to standard output, at once.

    Raises:
        AnswerNotWritten: a full disk, or what else the system says.
        SystemExit: nobody reads any more.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _say_no_more()
        raise SystemExit(1) from None
    except OSError as error:
        _say_no_more()
        raise AnswerNotWritten.from_cause(
            "the answer can't be written to standard output",
            error,
            remedy="Free space where it goes, or let it go elsewhere, then ask again",
        ) from error


class WithoutPadding:
    """Standard output where it's a file or a pipe: a table's lines end with their last word, not
    with blanks up to its width.
    """

    def write(self, text: str) -> int:
        write_answer(re.sub(r" +$", "", text, flags=re.MULTILINE))
        return len(text)

    def flush(self) -> None:
        """All is written at once."""


def _say_no_more() -> None:
    """What is still buffered would fail anew when the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
