"""Which graph is trained where the user asks for edits?

Rule: a checkpoint of this run's own has the edits of the flags that it was saved with; they are
undone first, so that the flags of now decide alone. What only a first start does (other keys,
initialised variables, another step) is done where the checkpoint is the source's. An edit sees no
more of the collections than the training does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver.chosen_graph import with_collections, without_collections
from orchestrator.graph.graphdef.undo import without_edits
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.problem import Problem
from orchestrator.graph.surgery.operation import operate
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.worker_graph import WorkerGraph

EDITS: dict[str, object] = {
    "freeze": [],
    "swap_optimizer": None,
    "clip_global_norm": None,
    "set": {},
}
"""What changes the graph."""
FIRST_START: dict[str, object] = {
    "rename": {},
    "restore_only": [],
    "reinit": [],
    "reset_slots": False,
    "reset_step": None,
}
"""What a later start of the same command leaves alone."""


def once_edited(config: RunConfig, *, of_this_run: bool = False) -> RunConfig:
    """The settings under which the graph that ``edited_graph`` gave is planned once more, beside
    the same checkpoint.
    """
    return config.model_copy(update={**EDITS, **(FIRST_START if of_this_run else {})})


def source_loading(own: Loading, first_config: Mapping[str, object]) -> Loading | None:
    """How the source's checkpoint is read where none of the run's own is left; None where that
    isn't known any more.

    Args:
        own: of the graph that is trained, which a start from a checkpoint of the run's own has made
            without the flags of the first start.
        first_config: the first start's settings, from the run's record.
    """
    asked = any(first_config.get(name, plain) != plain for name, plain in FIRST_START.items())
    return None if asked and own == AS_SAVED else own


@dataclass(frozen=True)
class Edited:
    """A graph to train, and what was done to it.

    Attributes:
        meta: without the collections that are dropped.
        saved: the same graph with them, as it's saved.
        checkpoint: what the checkpoint holds for it, seen through ``loading``.
        problems: for the report: refusals, and each edit.
    """

    meta: MetaGraphDef
    saved: MetaGraphDef
    checkpoint: CheckpointKeys | None
    problems: Sequence[Problem] = ()
    edits: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    loading: Loading = AS_SAVED

    def told_in(self, graph: WorkerGraph) -> WorkerGraph:
        """The planned graph with what was done to it."""
        return replace(graph, edits=self.edits, repairs=(*self.repairs, *graph.repairs))


def edited_graph(
    meta: MetaGraphDef,
    config: RunConfig,
    checkpoint: CheckpointKeys | None,
    *,
    of_this_run: bool = False,
) -> Edited:
    """``meta`` with the edits that the configuration asks for.

    Args:
        checkpoint: what the checkpoint that lies beside it holds.
        of_this_run: that checkpoint is one that the run itself wrote.

    Raises:
        ConfigError: a collection to be dropped isn't there.
        CorruptCheckpoint: earlier edits can't be undone.
    """
    if of_this_run:
        meta = without_edits(meta)
        config = config.model_copy(update=FIRST_START)
    done = operate(without_collections(meta, config.drop_collection), config, checkpoint)
    told = [
        *((said, "Leave the flag out to undo it") for said in done.edits),
        *((said, "To undo it, start anew into another output") for said in done.taken),
    ]
    edits = [Problem("edited", "warning", f"as asked: {said}", remedy) for said, remedy in told]
    return Edited(
        done.meta,
        with_collections(done.meta, meta, config.drop_collection),
        done.checkpoint,
        (*done.problems, *edits),
        done.done,
        done.repairs,
        done.loading,
    )
