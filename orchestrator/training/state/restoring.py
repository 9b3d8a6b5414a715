"""Which state does a run start from, given a checkpoint that may lack variables?

Rule: an optimizer's state that the checkpoint lacks starts from the graph's own initialisers, as
``check`` has said; a needed weight that it lacks is an error that names it, and all others with it,
unless the user allows its initialiser too. Rows that a grown table has more are initialised with
it. Of divided tables a rank reads and initialises its own rows alone. What no train operation
touches is initialised where the graph's own saver holds it and its initialiser works, so that plain
TensorFlow restores what will be saved; else it may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.errors import GraphMismatch
from orchestrator.graph.loading import Loading
from orchestrator.graph.variables.fit import has_to_be_there, is_optimizer_state
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.training.engine import host_memory
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.state.checkpoint_reader import read_checkpoint
from orchestrator.training.state.first_rows import make_rows
from orchestrator.training.state.host_buffers import aligned
from orchestrator.training.state.session_rows import Rows
from orchestrator.training.state.snapshot import Snapshot
from orchestrator.training.state.state import State
from orchestrator.training.state.table_blocks import Blocks, StoredRows, read_blocks


def load(
    graph: WorkerGraph,
    imported: Any,
    snapshot: Snapshot,
    options: TrainingOptions,
    prefix: str,
    init_missing: bool,
    of_source: bool = True,
    tables: tuple[StoredRows, LiveSession] | None = None,
) -> State:
    """The state in the checkpoint ``prefix``, completed by initialisers; of weights only where
    ``init_missing`` allows it.

    Args:
        of_source: it's what the run starts from, read as ``graph.loading`` says; else one of the
            run's own.
        tables: where the graph's divided tables are read from, and the session in which they're
            set meanwhile, so that they're in memory once; ``prefix`` has all else then.

    Raises:
        CorruptCheckpoint: the files can't be read.
        GraphMismatch: the graph needs what the checkpoint lacks.
    """
    loading = graph.loading if of_source else graph.loading.of_own()
    if tables is None:
        return _whole(graph, imported, snapshot, options, prefix, loading, init_missing)
    rows, session = tables
    members = graph.tables.members
    others = tuple(one for one in graph.variables if one.name not in members)

    def room(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Rows:
        if name in snapshot.rows.names:
            return snapshot.rows.make_room(session, name, shape)
        return aligned(shape, dtype)

    blocks = read_blocks(graph, rows, loading, room)
    lacking = [one for one in graph.variables if one.name in blocks.missing and one.needed]
    _refuse_missing(prefix, lacking, loading, init_missing=init_missing)
    state = _whole(
        *(replace(graph, variables=others), imported, snapshot, options, prefix),
        *(loading, init_missing),
    )
    if blocks.had:
        _make_rows(graph, imported, options, prefix, rows, blocks)
    host_memory.give_back()  # what the reading took
    read = {name: one for name, one in blocks.rows.items() if isinstance(one, np.ndarray)}
    placed = {name: one.nbytes for name, one in blocks.rows.items() if name not in read}
    arrays = {**state.arrays, **read}
    reads = tuple(blocks.reads)
    return replace(state, arrays=arrays, share=rows.share, reads=reads, placed=placed)


def _make_rows(
    graph: WorkerGraph,
    imported: Any,
    options: TrainingOptions,
    prefix: str,
    rows: StoredRows,
    blocks: Blocks,
) -> None:
    """Initialise the rows that the checkpoint lacks."""
    every = {variable.name: variable for variable in graph.variables}
    session = LiveSession(imported, options)
    try:
        for part in graph.tables.parts:
            held = rows.blocks(part)
            for name, first in zip(part.members, part.initial, strict=True):
                if name not in blocks.had:
                    continue
                if first is None:
                    remedy = "Resume once without --shard-tables, where a worker has room for all rows, and go on from what that saves"
                    raise _lacking(prefix, [every[name]], remedy)
                block, known = blocks.rows[name], blocks.rows
                make_rows(session, first, part.rows, block, held, blocks.had[name], known)
    except tf.errors.OpError as error:
        raise GraphMismatch.from_cause(
            "the initialiser of rows that the checkpoint lacks failed",
            error,
            remedy="Resume from a checkpoint that holds them",
        ) from error
    finally:
        session.close()


def _whole(
    graph: WorkerGraph,
    imported: Any,
    snapshot: Snapshot,
    options: TrainingOptions,
    prefix: str,
    loading: Loading,
    init_missing: bool,
) -> State:
    """All of the graph's variables."""
    loaded = read_checkpoint(graph, prefix, options, loading)
    missing = [variable for variable in loaded.missing if has_to_be_there(variable)]
    short = [variable for variable in graph.variables if _lacks_rows(variable, loaded.arrays)]
    if not missing and not short:
        return State(loaded.step, loaded.arrays)
    needed = [variable for variable in missing if variable.needed]
    _refuse_missing(prefix, needed, loading, init_missing=init_missing)
    without = [variable for variable in (*needed, *short) if variable.initializer is None]
    if without:
        raise _lacking(
            prefix,
            without,
            "The graph has no initialisers for them: resume from a checkpoint that holds them",
        )
    first = {variable.name: loaded.arrays[variable.name] for variable in short}
    arrays = {name: array for name, array in loaded.arrays.items() if name not in first}
    arrays.update(_initialised(imported, snapshot, options, arrays, [*short, *missing]))
    for name, rows in first.items():
        arrays[name][: len(rows)] = rows
    counter = "" if graph.step is None else graph.step.variable
    if counter in {variable.name for variable in missing} & arrays.keys():
        # From its initialiser's 0 it would count all of the run's steps once more
        arrays[counter] = np.full_like(arrays[counter], loaded.step)
    return State(loaded.step, arrays)


def _refuse_missing(
    prefix: str, needed: Sequence[Variable], loading: Loading, *, init_missing: bool
) -> None:
    """Raises GraphMismatch where weights are lacking that nobody has allowed to initialise."""
    weights = [
        variable
        for variable in needed
        if not is_optimizer_state(variable) and variable.name not in loading.anew
    ]
    if weights and not init_missing:
        raise _lacking(
            prefix, weights, "Use --init-missing to start them from the graph's initialisers"
        )


def _lacks_rows(variable: Variable, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a table has grown since it was saved."""
    array = arrays.get(variable.name)
    if array is None or not array.shape or not variable.shape or variable.shape[0] is None:
        return False
    return len(array) < variable.shape[0]


def _initialised(
    imported: Any,
    snapshot: Snapshot,
    options: TrainingOptions,
    known: dict[str, np.ndarray],
    missing: Sequence[Variable],
) -> dict[str, np.ndarray]:
    """Values of the missing variables, but for those that training doesn't need and whose
    initialisers fail; an initialiser may read known variables, and missing ones that come before
    it.
    """
    session = LiveSession(imported, options)
    try:
        snapshot.assign(
            session, {name: array for name, array in known.items() if name in snapshot.variables}
        )
        waiting = [variable for variable in missing if variable.initializer is not None]
        made: list[str] = []
        while waiting:
            failed, error = _attempt(snapshot, session, waiting)
            made += [variable.name for variable in waiting if variable not in failed]
            if len(failed) == len(waiting):
                needed = [variable.name for variable in failed if variable.needed]
                if needed:
                    raise GraphMismatch.from_cause(
                        f"the initialiser of {needed[0]} failed",
                        error or ValueError(),
                        remedy="Resume from a checkpoint that holds it",
                    ) from error
                break
            waiting = failed
        return snapshot.read(session, made)
    finally:
        session.close()


def _attempt(
    snapshot: Snapshot, session: LiveSession, waiting: Sequence[Variable]
) -> tuple[list[Variable], BaseException | None]:
    failed: list[Variable] = []
    last: BaseException | None = None
    for variable in waiting:
        try:
            snapshot.initialise(session, [variable.initializer or ""])
        except tf.errors.OpError as error:
            failed.append(variable)
            last = error
    return failed, last


def _lacking(prefix: str, variables: Sequence[Variable], remedy: str) -> GraphMismatch:
    names = [variable.name for variable in variables]
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return GraphMismatch(
        f"the checkpoint {prefix} lacks {len(names)} variables that the train operation needs: {shown}",
        remedy=remedy,
        details={"missing": names},
    )
