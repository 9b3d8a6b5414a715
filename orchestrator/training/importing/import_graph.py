"""How does a rewritten graph get into TensorFlow?

Rule: once per process, as it is. Everything that differs between world sizes and generations is fed
or rewired, so that no re-form pays for importing the graph again (seconds on 25,000 nodes).
"""

from __future__ import annotations

import importlib
from typing import Any

from orchestrator.errors import ConfigError, GraphMismatch
from orchestrator.graph.random.seeds import give_seeds
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.lazy_import import finish_if_taken
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.importing.py_funcs import bind
from orchestrator.training.importing.remote_files import localize
from orchestrator.training.importing.user_code import load_function


def import_graph(graph: WorkerGraph, options: TrainingOptions) -> Any:
    """A TensorFlow graph of ``graph.graphdef.meta``.

    Raises:
        ConfigError: a module or library that the options name can't be loaded.
        UserCodeError: nor a ``py_func`` function.
        SourceError: an input file of ``path_map`` isn't there.
        GraphMismatch: this TensorFlow can't import the graph.
    """
    load_extensions(graph, options)
    meta = v1.MetaGraphDef.FromString(graph.meta)
    localize(meta, graph.remote_paths)
    give_seeds(meta.graph_def, options.seed)
    imported = tf.Graph()
    try:
        with imported.as_default():
            producer = (
                meta.meta_info_def.stripped_op_list
                if meta.meta_info_def.HasField("stripped_op_list")
                else None
            )
            tf.graph_util.import_graph_def(meta.graph_def, name="", producer_op_list=producer)
    except (ValueError, tf.errors.OpError) as error:
        raise GraphMismatch.from_cause(
            f"TensorFlow {tf.__version__} can't import the graph",
            error,
            remedy="`tfresume check` says what it needs; custom operations come from --load-op-library or --import-modules",
        ) from error
    return imported


def load_extensions(graph: WorkerGraph, options: TrainingOptions) -> None:
    """Import the user's modules, load operation libraries, and give ``py_func`` nodes their
    functions back.
    """
    for module in options.import_modules:
        finish_if_taken(_load("module", module, importlib.import_module))
    for library in dict.fromkeys((*graph.load_op_library, *options.load_op_library)):
        _load("operation library", library, tf.load_op_library)
    bind(
        graph.py_funcs,
        {token: load_function(reference) for token, reference in options.py_func.items()},
    )


def _load(kind: str, name: str, load: Any) -> Any:
    try:
        return load(name)
    except (ImportError, AttributeError, OSError, tf.errors.OpError) as error:
        raise ConfigError.from_cause(
            f"the {kind} {name} can't be loaded on a worker",
            error,
            remedy="Install it on every node, or correct its name",
        ) from error
