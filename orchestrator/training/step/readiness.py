"""What can a standby do before it's needed?

Rule: everything that doesn't depend on the run's state. The session is open and its calls are
prepared; a session that is thrown away has computed once, on zeros, so that TensorFlow's threads
and kernels are warm. The real session's variables stay unset, but for those that the graph itself
initialises in every session: whoever reads one that nobody has restored must get the error, not a
zero. Nothing of the user's is called and no GPU is touched, since a standby has none yet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.graph.worker_graph import InputPort, Variable, WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.state.snapshot import Snapshot

log = logging.getLogger(__name__)

LARGEST_BYTES = 256 * 1024 * 1024
"""Of variables that are worth a second copy for a moment: the members train on the same machine,
and their memory was reckoned without it.
"""


def get_ready(
    imported: Any,
    graph: WorkerGraph,
    options: TrainingOptions,
    snapshot: Snapshot,
    prepare: Callable[[int, Sequence[str]], Sequence[str]],
) -> bool:
    """Prepare the calls of every train operation, and rehearse; whether all of it went well.

    Args:
        prepare: ``Group.prepare``.
    """
    batch = zeros_for(graph)
    ports = {port.tensor: port.targets for port in graph.inputs}
    fetches: list[str] = []
    for number in range(len(graph.targets)):
        fetches += prepare(number, [name for name in batch if number in ports.get(name, (number,))])
    return _rehearsed(imported, graph, options, snapshot, fetches, batch)


def _rehearsed(
    imported: Any,
    graph: WorkerGraph,
    options: TrainingOptions,
    snapshot: Snapshot,
    fetches: Sequence[str],
    batch: Mapping[str, np.ndarray],
) -> bool:
    variables = {
        variable.name: array
        for variable in graph.variables
        if (array := _zero_value(variable)) is not None
    }
    size_bytes = sum(array.nbytes for array in variables.values())
    if not fetches:
        return True
    # The user's Python functions may count their calls, or write somewhere
    if size_bytes > LARGEST_BYTES or options.py_func:
        return False
    session = LiveSession(imported, options)
    try:
        snapshot.initialise(session, (*graph.table_initializers, *graph.local_initializers))
        snapshot.assign(session, variables)
        session.run(list(dict.fromkeys(fetches)), batch)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        # what zeros can't do says nothing about real batches
        log.debug("the rehearsal ended early: %s", error)
        return False
    else:
        return True
    finally:
        session.close()


def zeros_for(graph: WorkerGraph) -> dict[str, np.ndarray]:
    """A batch of one row of zeros, and keys for the random operations, by tensor, in the order in
    which a run feeds them.
    """
    feeds = {port.tensor: _zeros(port) for port in graph.inputs if not port.optional}
    keys = [name for name in (graph.rng_feed, graph.group_rng_feed) if name is not None]
    return dict(sorted(feeds.items())) | {name: np.zeros(2, np.int64) for name in keys}


def _zeros(port: InputPort) -> np.ndarray:
    shape = tuple(1 if size is None else size for size in port.shape or ())
    return (
        np.full(shape, b"", object)
        if port.dtype == "string"
        else np.zeros(shape, tf.as_dtype(port.dtype).as_numpy_dtype)
    )


def _zero_value(variable: Variable) -> np.ndarray | None:
    if variable.dtype == "string" or variable.shape is None or None in variable.shape:
        return None
    shape = tuple(size for size in variable.shape if size is not None)
    zero: np.ndarray = np.zeros((), tf.as_dtype(variable.dtype).as_numpy_dtype)
    return np.broadcast_to(zero, shape)
