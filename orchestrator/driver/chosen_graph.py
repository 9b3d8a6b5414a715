"""Which graph is trained: the checkpoint's own, or another that the user named, with which of its
collections?

Rule: what ``import_meta_graph`` calls ``meta_graph_or_file`` and ``restore_collections_predicate``
are the settings ``meta`` and ``drop_collection``. Once a run has a checkpoint of its own, that
one's ``.meta`` is the graph. Dropped collections are dropped from what is planned and trained
alone: what is saved keeps them.
"""

from __future__ import annotations

from dataclasses import replace

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.graphdef.undo import COLLECTION as RECORD
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.objects.location import open_location


def graph_to_train(meta: MetaGraphDef, config: RunConfig) -> MetaGraphDef:
    """The graph to plan for a checkpoint that isn't this run's own, whose graph is ``meta``.

    Raises:
        SourceError: the named file is missing or is no graph.
        ConfigError: a collection to be dropped isn't there.
    """
    return without_collections(chosen_graph(meta, config.meta), config.drop_collection)


def chosen_graph(
    meta: MetaGraphDef, named: str | None, *, of_this_run: bool = False
) -> MetaGraphDef:
    """``meta`` of the checkpoint, or the file that the user named; the former where the checkpoint
    is one that this run wrote.

    Raises:
        SourceError: the named file is missing or is no graph.
    """
    if named is None or of_this_run:
        return meta
    location = open_location(named)
    return read_meta(location.read_bytes(), name=location.shown)


def without_collections(meta: MetaGraphDef, dropped: list[str]) -> MetaGraphDef:
    """A copy without these collections; ``meta`` itself where there are none to drop.

    Raises:
        ConfigError: a collection isn't there, or is the record of the graph's edits.
    """
    if RECORD in dropped:
        raise ConfigError(
            f"--drop-collection {RECORD}: it's tfresume's own record of how the graph was edited, without which no later start can undo that",
            remedy="Leave it out: TensorFlow imports it as text that means nothing to it",
        )
    missing = sorted(set(dropped) - set(meta.collection_def))
    if missing:
        raise ConfigError(
            f"--drop-collection {', '.join(missing)}: the graph has no such collection",
            remedy=f"It has {', '.join(sorted(meta.collection_def)) or 'none'}",
        )
    if not dropped:
        return meta
    kept = MetaGraphDef()
    kept.CopyFrom(meta)
    for name in dropped:
        del kept.collection_def[name]
    return kept


def with_collections(meta: MetaGraphDef, whole: MetaGraphDef, dropped: list[str]) -> MetaGraphDef:
    """A copy with those collections of ``whole`` that were dropped; ``meta`` itself where none
    were.
    """
    if not dropped:
        return meta
    kept = MetaGraphDef()
    kept.CopyFrom(meta)
    for name in dropped:
        kept.collection_def[name].CopyFrom(whole.collection_def[name])
    return kept


def keep_collections(graph: WorkerGraph, whole: MetaGraphDef, config: RunConfig) -> WorkerGraph:
    """The same graph to train, saved with all the collections of ``whole``."""
    if not config.drop_collection:
        return graph
    return replace(
        graph, original_meta=repair(whole, config).meta.SerializeToString(deterministic=True)
    )
