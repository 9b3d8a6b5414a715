"""Do a run's source and its output keep out of each other's way?

Rule: an output writes TensorFlow's ``checkpoint`` file and directories of its own, so it's neither
the directory that holds the source's files nor one inside the directory that was named as the
source; and a run's own checkpoint isn't the source of another run in the same output. It's the
place that counts, not its spelling: symbolic links, ``..``, doubled slashes and a protocol's other
names are seen through.
"""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.errors import OutputError
from orchestrator.store.objects.layout import read_generation_id
from orchestrator.store.objects.location import Location

_REMEDY = "Use an --output of its own, beside the source"


def refuse_common_place(output: Location, source: Location, files: Location) -> None:
    """Refuse an output that would write into its source.

    Args:
        source: what was named: a directory, a prefix or a file.
        files: the directory in which the source's graph or checkpoint was found.

    Raises:
        OutputError: names both places.
    """
    details = {"output": output.shown, "source": source.shown}
    if _contains(files, output) and _contains(output, files):
        raise OutputError(
            f"the output {output.shown} is the directory of the source, whose checkpoint file a run would overwrite",
            remedy=_REMEDY,
            details=details,
        )
    if _contains(source, output):
        raise OutputError(
            f"the output {output.shown} lies inside the source {source.shown}",
            remedy=_REMEDY,
            details=details,
        )
    if read_generation_id(files.name) is not None and _contains(output, files):
        raise OutputError(
            f"the source {source.shown} is one of the output's own checkpoints",
            remedy="Run the command that this output began with to go on, or use another --output to begin anew from there",
            details=details,
        )


def _contains(outer: Location, inner: Location) -> bool:
    """Whether ``inner`` is ``outer`` or lies below it."""
    if outer.is_local and inner.is_local:
        return _contains_locally(Path(outer.path), Path(inner.path))
    above, below = _segments(outer), _segments(inner)
    return outer.protocol == inner.protocol and below[: len(above)] == above


def _contains_locally(outer: Path, inner: Path) -> bool:
    real = Path(os.path.realpath(inner))
    if outer.exists():
        # By identity, which sees through bind mounts and file systems that don't tell capital
        # letters apart
        return any(
            ancestor.exists() and os.path.samefile(ancestor, outer)
            for ancestor in (real, *real.parents)
        )
    return real.is_relative_to(os.path.realpath(outer))


def _segments(location: Location) -> list[str]:
    return [segment for segment in location.path.split("/") if segment not in ("", ".")]
