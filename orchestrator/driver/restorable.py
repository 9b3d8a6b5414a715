"""From which checkpoint can a run go on, when none of its workers has a state any more?

Rule: the newest good one of the run's own, be it one of changed rows; where there is none, the source, read as the run's first
start read it. What turned out bad while it was restored is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.config import RunConfig
from orchestrator.errors import CorruptCheckpoint
from orchestrator.graph.loading import Loading
from orchestrator.store.checkpoints.chain_source import newest_state
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint
from orchestrator.store.checkpoints.source import (
    Source,
    named_source,
    resolve_source,
)
from orchestrator.store.objects.location import Location
from orchestrator.workers.orders import CheckpointFiles


@dataclass(frozen=True)
class RestorableSource:
    """A good checkpoint.

    Attributes:
        files: what workers need in order to restore it.
        own: what it is among the run's checkpoints; None where it's the source's.
    """

    source: Source
    files: CheckpointFiles
    own: Checkpoint | None


def newest_restorable(
    output: Location, config: RunConfig, loading: Loading | None, exclude: Mapping[str, str]
) -> RestorableSource:
    """The newest good checkpoint, every byte of it checked.

    Args:
        loading: how the source is read; None where that isn't known any more.
        exclude: labels of checkpoints that turned out bad, with the reason.

    Raises:
        CorruptCheckpoint: none is good.
        OrchestratorError: what the store or the source says.
    """
    source, newest = newest_state(output, exclude=exclude, deep=True)
    if source is not None:
        return RestorableSource(source, files_of(source), newest)
    if loading is None:
        raise CorruptCheckpoint(
            "no good checkpoint of the run's own is left, and its first start took other names, values or a step than the source's own",
            remedy="Start again with the same flags into another output",
        )
    source = resolve_source(named_source(config), exclude=exclude, deep=True)
    # A source that names one checkpoint gives that one, whatever is excluded
    if source.label in exclude:
        raise CorruptCheckpoint(
            f"{source.label} turned out bad while it was restored, and the source names no other: {exclude[source.label]}",
            remedy="Name another checkpoint, or copy this one again",
        )
    # The flags of the first start hold for it here as they did there
    return RestorableSource(source, replace(files_of(source, loading.step), of_source=True), None)


def files_of(source: Source, step: int | None = None) -> CheckpointFiles:
    """What workers need in order to restore ``source``."""
    assert source.prefix is not None
    if step is None:
        known = source.manifest.step if source.manifest else source.step
        step = known if known is not None else source.step_in_name or 0
    position = source.manifest.position if source.manifest else 0
    return CheckpointFiles(step, position, source.prefix.url, source.files, links=source.links)
