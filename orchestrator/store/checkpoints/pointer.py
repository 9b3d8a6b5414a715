"""What does TensorFlow's ``checkpoint`` file say, and how much of it may be believed?

Rule: it's a hint. Reading takes relative paths without ``..`` as they are and only the last segment
of any other (absolute ones of the machine that wrote them, Windows ones): the name is looked up in
the directory that was asked for, never outside of it. Writing puts relative paths, so that the
directory can be moved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from google.protobuf import text_encoding

from orchestrator.store.checkpoints.candidates import Candidate, group
from orchestrator.store.objects.layout import POINTER
from orchestrator.store.objects.location import Location

_PATH = re.compile(r'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\\n]|\\.)*)"', re.MULTILINE)
MAX_POINTER_BYTES = 16 << 20
"""TensorFlow's pointer lists every checkpoint that it keeps, some hundred bytes each; what is
longer than this isn't one, and only its first line is wanted.
"""


def parse_pointer(data: bytes) -> str | None:
    """The checkpoint that a state file names, as a path below its own directory; None where it
    names none that could be there.
    """
    found = _PATH.search(data.decode("utf-8", "replace"))
    if found is None:
        return None
    try:
        text = text_encoding.CUnescape(found[1]).decode("utf-8", "replace")
    except ValueError:
        text = found[1]
    segments = [segment for segment in text.split("/") if segment not in ("", ".")]
    trusted = (
        not text.startswith("/")
        and ".." not in segments
        and "\\" not in text
        and "://" not in text
        and "\0" not in text
    )
    if not trusted:
        segments = [segment for segment in re.split(r"[\\/]", text) if segment][-1:]
    if not segments or ".." in segments or "\0" in segments[-1]:
        return None
    return "/".join(segments)


def read_pointer(directory: Location) -> str | None:
    """What the directory's ``checkpoint`` file names; None without one. Raises SourceError,
    StorageUnavailable.
    """
    data = directory.child(POINTER).read_if_exists()
    return parse_pointer(data[:MAX_POINTER_BYTES]) if data else None


def followed(
    directory: Location, found: Mapping[str, Candidate], pointed: str | None
) -> tuple[Location, Mapping[str, Candidate], str | None]:
    """The directory that is meant, its candidates, and the prefix that the state file names.

    Args:
        found: the candidates of the directory that was asked for.
        pointed: what its state file names, be it in a directory below.

    Raises:
        SourceError, StorageUnavailable: that one can't be listed.
    """
    below, _, name = (pointed or "").rpartition("/")
    if below and name not in found:
        there = directory.child(below)
        elsewhere = group(there, there.list())
        nothing_here = not any(item.is_checkpoint for item in found.values())
        # A stale one, of a directory that was moved or copied in part, leads away from what is here
        if name in elsewhere or (elsewhere and nothing_here):
            return there, elsewhere, name
    return directory, found, name or None


def pointer_text(newest: str, all_paths: Sequence[str]) -> bytes:
    """A state file as ``tf.train.Saver`` writes it.

    Args:
        newest: the checkpoint to restore, relative.
        all_paths: all that are kept, oldest first.
    """
    lines = [f'model_checkpoint_path: "{_escaped(newest)}"']
    lines += [f'all_model_checkpoint_paths: "{_escaped(path)}"' for path in all_paths]
    return ("\n".join(lines) + "\n").encode()


def write_pointer(output: Location, newest: str, all_paths: Sequence[str]) -> bool:
    """Writes the state file where it says something else; whether it did. Raises OutputError,
    StorageUnavailable.
    """
    text = pointer_text(newest, all_paths)
    file = output.child(POINTER)
    if file.read_if_exists() == text:
        return False
    file.write_bytes(text)
    return True


def _escaped(path: str) -> str:
    return str(text_encoding.CEscape(path.encode(), as_utf8=True))
