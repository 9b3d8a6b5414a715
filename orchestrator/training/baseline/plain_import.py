"""How does plain TensorFlow open a source, with nothing of ours in its graph?

Rule: the source's graph (repairs only), its own saver, its own initialisers; of those of lookup
tables the ones that are needed, since another's file may be gone. Where batches are taken out of a
pipeline that is gone, the tensors are replaced at the import, since feeding them may still dequeue
and hang.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import ConfigError, GraphMismatch
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.importing.remote_files import localize

OF_A_RUN = (
    "Resume it into an output of its own (--steps 1): what is saved there has a graph that plain "
    "TensorFlow restores; then ask for that output"
)


def import_plain(graph: WorkerGraph, input_map: Mapping[str, str]) -> dict[str, str]:
    """Import ``graph.original_meta`` into the default graph.

    Args:
        graph: its ``inputs`` that aren't placeholders are cut.
        input_map: tensor to key, as in the configuration.

    Returns:
        What users call an input to the tensor that is fed.

    Raises:
        GraphMismatch: TensorFlow can't import it.
    """
    replaced, places = {}, {}
    # What ``--input-map`` replaces is called by its key, and replaced under its own name
    tensors = {key: parse_tensor(tensor).tensor for tensor, key in input_map.items()}
    for number, port in enumerate(graph.inputs):
        if port.origin == "placeholder":
            places[port.name] = port.name
            continue
        placeholder = v1.placeholder(
            tf.as_dtype(port.dtype), port.shape, name=f"tfresume_input_{number}"
        )
        places[port.name] = placeholder.name
        replaced[tensors.get(port.name, port.name)] = placeholder
    meta = v1.MetaGraphDef.FromString(graph.original_meta)
    localize(meta, graph.remote_paths)
    try:
        v1.train.import_meta_graph(
            meta,
            clear_devices=True,
            input_map=replaced or None,
        )
    except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        raise GraphMismatch.from_cause(
            "plain TensorFlow can't import the source's graph",
            error,
            remedy="`tfresume check` says what it needs",
        ) from error
    return places


def restore_plain(session: Any, graph: WorkerGraph, prefix: str) -> None:
    """Initialise everything, then restore with the graph's own saver.

    Raises:
        ConfigError: the graph has no saver.
        GraphMismatch: the checkpoint lacks what the saver wants.
    """
    saver = v1.MetaGraphDef.FromString(graph.original_meta).saver_def
    if not saver.restore_op_name:
        raise ConfigError(
            "the source's graph has no saver, so plain TensorFlow can't restore it",
            remedy=OF_A_RUN,
        )
    _initialise(session, graph.table_initializers)
    try:
        v1.train.Saver(saver_def=saver).restore(session, prefix)
    except (ValueError, tf.errors.OpError) as error:
        raise GraphMismatch.from_cause(
            "plain TensorFlow can't restore the source's checkpoint", error, remedy=OF_A_RUN
        ) from error


def _initialise(session: Any, tables: Sequence[str]) -> None:
    """All at once; where an initialiser reads another variable (moving averages of weights), one
    after another as far as they go.
    """
    waiting = [variable.initializer for variable in (*v1.global_variables(), *v1.local_variables())]
    try:
        session.run(waiting)
    except tf.errors.FailedPreconditionError:
        _one_after_another(session, waiting)
    try:
        filling = [session.graph.get_operation_by_name(table) for table in tables]
    except KeyError:  # named as in an import scope, of which plain TensorFlow knows nothing
        filling = [v1.tables_initializer()]
    session.run(filling)


def _one_after_another(session: Any, waiting: list[Any]) -> None:
    while waiting:
        failed: list[Any] = []
        for initializer in waiting:
            try:
                session.run(initializer)
            except tf.errors.FailedPreconditionError as error:
                failed.append(initializer)
                last = error
        # A round in which none went through: no further one will
        if len(failed) == len(waiting):
            raise GraphMismatch.from_cause(
                "the graph's own initialisers wait for each other",
                last,
                remedy=OF_A_RUN,
            ) from last
        waiting = failed
