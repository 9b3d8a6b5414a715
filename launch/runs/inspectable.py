"""What can be looked at where SOURCE's checkpoint is bad or missing?

Rule: the graph, whenever it can be read, and what is wrong with the checkpoint beside it.
``inspect`` shows both; ``check`` counts the latter among its reasons; only ``resume`` insists on a
good checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.errors import CorruptCheckpoint, OrchestratorError, OutputError, SourceError
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.problem import Problem
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.checkpoints.source import Source, resolve_source
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.apart import refuse_common_place


@dataclass(frozen=True)
class LookedAt:
    """A graph, what its checkpoint holds as far as that can be told, and what is wrong with it.

    Attributes:
        shown: the ``.meta`` as messages call it.
        keys: the checkpoint's tensors; None where there is no readable index.
        problems: reasons why the checkpoint can't be resumed; warnings for what was chosen in its
            stead.
    """

    shown: str
    meta: MetaGraphDef
    size_bytes: int
    keys: CheckpointKeys | None
    problems: tuple[Problem, ...] = ()


def look_at(url: str, output: str = "") -> LookedAt:
    """The graph that SOURCE names, and the state of its checkpoint.

    Args:
        output: of the run that is judged; empty where it has none yet.

    Raises:
        SourceError: there is no graph that can be read.
        StorageUnavailable: the store doesn't answer.
    """
    try:
        source = resolve_source(url, need_checkpoint=False)
    except (CorruptCheckpoint, SourceError) as error:
        return _graph_alone(url, error)
    problems = [Problem("source-note", "warning", note) for note in source.notes]
    problems.extend(
        Problem(
            "checkpoint-passed-over",
            "warning",
            f"{refusal.checkpoint} was passed over: {refusal.reason}",
        )
        for refusal in source.refused
    )
    if source.prefix is None:
        said = (
            f"{source.meta.shown} has no checkpoint beside it, so there are no variables to resume"
        )
        problems.append(
            Problem(
                "no-checkpoint",
                "error",
                said,
                "Copy the checkpoint's .index and .data files into the same directory",
            )
        )
    if output:
        problems.extend(_common_place(output, url, source))
    meta = read_meta(source.meta_data, name=source.meta.shown)
    return LookedAt(source.meta.shown, meta, len(source.meta_data), source.keys(), tuple(problems))


def _common_place(output: str, url: str, source: Source) -> list[Problem]:
    try:
        refuse_common_place(open_location(output), open_location(url), source.place)
    except OutputError as error:
        return [Problem("output-in-source", "error", error.message, error.remedy)]
    return []


def _graph_alone(url: str, error: OrchestratorError) -> LookedAt:
    """The graph beside a checkpoint that is refused; the refusal itself where there is no graph to
    show.
    """
    location = open_location(url)
    prefix = location.name.removesuffix(".meta").removesuffix(".index")
    beside = location.sibling(f"{prefix}.meta")
    if not prefix or not beside.exists():
        raise SourceError(error.message, remedy=error.remedy, details=error.details) from error
    data = beside.read_bytes()
    problem = Problem("bad-checkpoint", "error", error.message, error.remedy, (prefix,))
    keys = _keys(location.sibling(f"{prefix}.index"))
    return LookedAt(beside.shown, read_meta(data, name=beside.shown), len(data), keys, (problem,))


def _keys(index: Location) -> CheckpointKeys | None:
    if not index.exists():
        return None
    try:
        return read_index(index.read_bytes(), index.shown).keys_for_graph()
    except (CorruptCheckpoint, SourceError):
        return None
