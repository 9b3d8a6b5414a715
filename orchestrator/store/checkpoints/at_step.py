"""Which checkpoint of a directory is that of a given step?

Rule: by its manifest's place where it's a run's output, else by the number in its name; what the
lineage has fenced off doesn't count. It's named, never guessed: where there is none, the steps that
are there are told.
"""

from __future__ import annotations

from orchestrator.errors import SourceError
from orchestrator.store.checkpoints.candidates import group
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.layout import CONTROL, read_generation_id
from orchestrator.store.objects.location import Location, open_location

STEPS_TOLD = 12
"""Steps that a message lists: a line or two."""


def at_step(url: str, step: int) -> str:
    """The URL of the prefix of the checkpoint of ``step`` in the directory ``url``.

    Raises:
        SourceError: ``url`` is no directory, has no such checkpoint, or several of different names.
        StorageUnavailable: the store doesn't answer.
    """
    location = open_location(url)
    found = _checkpoints(location)
    if not found:
        raise SourceError(
            f"{location.shown} has no checkpoint of step {step:,} to choose: it is no directory with checkpoints",
            remedy="Give the directory, or the checkpoint's own prefix without a step",
        )
    fitting = [place for place, at in found if at == step]
    if not fitting:
        steps = sorted({at for _, at in found if at is not None})
        told = ", ".join(f"{at:,}" for at in steps[-STEPS_TOLD:])
        earlier = f"{len(steps) - STEPS_TOLD} earlier, " if len(steps) > STEPS_TOLD else ""
        raise SourceError(
            f"{location.shown} has no checkpoint of step {step:,}; it has {earlier}{told or 'none with a step in its name'}",
            remedy="Choose one of these steps",
            details={"steps": steps},
        )
    names = {place.name for place in fitting}
    if len(names) > 1:
        raise SourceError(
            f"{location.shown} has {len(names)} checkpoints of step {step:,}: {', '.join(sorted(names))}",
            remedy="Give the prefix of one of them, without a step",
        )
    return fitting[0].url


def _checkpoints(location: Location) -> list[tuple[Location, int | None]]:
    """Prefix and step of each checkpoint; a run's own newest first."""
    entries = location.list()
    ours = any(
        entry.is_directory and (entry.name == CONTROL or read_generation_id(entry.name))
        for entry in entries
    )
    if ours:
        return [(item.prefix, item.step) for item in list_checkpoints(location)]
    return [
        (item.location, item.step_in_name)
        for item in group(location, entries).values()
        if item.is_checkpoint
    ]
