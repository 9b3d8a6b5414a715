"""What does a program get that only looks at a graph, or edits it without training?

Rule: the command's answers as values; no TensorFlow, no Ray, nothing written. The edits are the
settings of ``resume``, under their names::

    import orchestrator

    best = orchestrator.outputs("gs://b/run")[0]
    edited = orchestrator.edit("gs://b/run", swap_optimizer="adam", freeze=["encoder/*"])
    pathlib.Path("edited.meta").write_bytes(edited.meta)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.config import parse_config
from orchestrator.driver.chosen_graph import chosen_graph
from orchestrator.driver.edited_graph import edited_graph
from orchestrator.errors import GraphRefused
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inference.outputs import predictions
from orchestrator.graph.inspect_report import OutputEntry
from orchestrator.store.checkpoints.source import resolve_source


@dataclass(frozen=True)
class EditedGraph:
    """A graph after the edits that were asked for.

    Attributes:
        meta: the MetaGraphDef, serialized: TensorFlow's ``import_meta_graph`` takes it.
        edits: each edit in words, also those of what a first start takes of the checkpoint.
    """

    meta: bytes
    edits: tuple[str, ...]


def outputs(source: str) -> tuple[OutputEntry, ...]:
    """What a user would call the model's prediction, as ``inspect`` ranks it.

    Args:
        source: a ``.meta``, a checkpoint prefix, a directory or a run's output; any fsspec URL.

    Returns:
        The likeliest first; each with ``name`` (``NODE:PORT``), ``dtype``, ``kind`` and ``why``.
        Empty where the graph's wiring is damaged, or nothing looks like a prediction.

    Raises:
        SourceError, CorruptCheckpoint: there is no graph that can be read.
        StorageUnavailable: the store doesn't answer.
    """
    found = resolve_source(source, need_checkpoint=False)
    meta = read_meta(found.meta_data, name=found.meta.shown)
    return predictions(meta, found.meta.shown)


def edit(source: str, **settings: Any) -> EditedGraph:
    """The graph that ``resume`` with these settings would train and save.

    Args:
        source: as in ``resume``.
        settings: ``set``, ``swap_optimizer``, ``clip_global_norm``, ``freeze``, ``grow``,
            ``rename``, ``restore_only``, ``reinit``, ``reset_slots``, ``reset_step``, and what else
            says which graph is meant (``meta``, ``train_op``, ``drop_collection``).

    Raises:
        GraphRefused: an edit can't be made; ``details["problems"]`` has all of them, each with the
            nodes that forbid it.
        ConfigError: a setting is unknown, or of a wrong type.
        SourceError, CorruptCheckpoint: the source is missing or damaged.
        StorageUnavailable: the store doesn't answer.
    """
    config = parse_config({**settings, "source": source})
    found = resolve_source(source, need_checkpoint=False)
    meta = chosen_graph(read_meta(found.meta_data, name=found.meta.shown), config.meta)
    edited = edited_graph(meta, config, found.keys())
    refused = [problem for problem in edited.problems if problem.severity == "error"]
    if refused:
        raise GraphRefused(
            f"{found.meta.shown} can't be edited as asked: {refused[0].message}",
            remedy=refused[0].remedy,
            details={"problems": [asdict(problem) for problem in refused]},
        )
    return EditedGraph(edited.saved.SerializeToString(), edited.edits)
