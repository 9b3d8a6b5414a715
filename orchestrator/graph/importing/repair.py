"""Without which repairs can't TensorFlow import a graph, or load what we save of it?

Rule: only what stops that is touched, each repair is put into words, and a graph that needs none is
handed on as it is. What is left of Horovod goes too (``horovod``), and means of gradients over a
cluster that's gone (``collectives``): the exchange between workers is tfresume's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.opset import OpSet, merged
from orchestrator.graph.importing.collectives import without_mean_reductions
from orchestrator.graph.importing.compat import Compatibility, compatibility
from orchestrator.graph.importing.horovod import without_horovod
from orchestrator.graph.importing.mending import mend
from orchestrator.graph.importing.saver_format import modernised


@dataclass(frozen=True)
class Repaired:
    """A graph that TensorFlow can import, as far as it can be made so.

    Attributes:
        meta: the repaired copy; the graph itself where nothing was repaired.
        done: each repair in words.
        ops: the operations that the graph was compared with.
        found: what doesn't fit them still.
    """

    meta: MetaGraphDef
    done: tuple[str, ...]
    ops: OpSet
    found: Compatibility


def repair(meta: MetaGraphDef, config: RunConfig) -> Repaired:
    """Repair ``meta``, which isn't changed itself."""
    ops = merged(meta)
    found = compatibility(meta, ops)
    mended, done = _mended(meta, ops, found, config)
    if not done:
        return Repaired(meta, (), ops, found)
    ops = merged(mended)
    return Repaired(mended, done, ops, compatibility(mended, ops))


def _mended(
    meta: MetaGraphDef, ops: OpSet, found: Compatibility, config: RunConfig
) -> tuple[MetaGraphDef, tuple[str, ...]]:
    mended, done = mend(meta, ops, force=config.force, found=found)
    mended, modern = modernised(mended, ops)
    done = (*done, *modern)
    mended, freed = without_horovod(mended, bypass=not config.load_op_library)
    mended, alone = without_mean_reductions(mended, ops)
    return mended, (*done, *freed, *alone)
