"""What does plain TensorFlow 1 compute where its author makes the edit in code?

Rule: the maker of the graph is called again with the edit as an option, its variables are set to the
checkpoint's wherever they have the same name, and what is new there begins at its initial value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.graphs.networks import MAKERS

Arrays = dict[str, np.ndarray]


def written_in_code(
    kind: str,
    options: Mapping[str, Any],
    prefix: str,
    batches: Sequence[Mapping[str, Any]],
    frozen: str = "",
) -> Arrays:
    """Every variable after the steps, by name.

    Args:
        options: of the maker, with the edit among them.
        prefix: of the checkpoint.
        frozen: beginning of the names of variables that the optimizer isn't given.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_resource_variables()
    original = v1.train.Optimizer.compute_gradients

    def of_the_rest(self: Any, loss: Any, *args: Any, **kwargs: Any) -> Any:
        kept = [one for one in v1.trainable_variables() if not one.op.name.startswith(frozen)]
        return original(self, loss, var_list=kept)

    if frozen:
        v1.train.Optimizer.compute_gradients = of_the_rest
    try:
        with tf.Graph().as_default() as graph:
            train = MAKERS[kind](**options)
    finally:
        v1.train.Optimizer.compute_gradients = original
    with graph.as_default(), v1.Session(graph=graph) as session:
        variables = v1.global_variables()
        for one in variables:  # averages start from what they average
            session.run(one.initializer)
        reader = tf.train.load_checkpoint(prefix)
        for one in variables:
            if reader.has_tensor(one.op.name):
                one.load(reader.get_tensor(one.op.name), session)
        for batch in batches:
            session.run(train, batch)
        return dict(zip([one.op.name for one in variables], session.run(variables), strict=True))


def restored_in_three_lines(
    prefix: str, batch: Mapping[str, Any], train: str
) -> tuple[Arrays, Arrays]:
    """What plain TensorFlow restores of a checkpoint of ours, and what a step makes of it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        saver = v1.train.import_meta_graph(f"{prefix}.meta")
        saver.restore(session, prefix)
        variables = v1.global_variables()
        names = [one.op.name for one in variables]
        before = dict(zip(names, session.run(variables), strict=True))
        session.run(train, dict(batch))
        return before, dict(zip(names, session.run(variables), strict=True))


def saved(trainer: Any, directory: str, name: str) -> str:
    """Write the trainer's state as a checkpoint; its prefix."""
    from orchestrator.training.state.bundle_writer import write_bundle

    write_bundle(trainer.state(), trainer.graph, Path(directory), name)
    return f"{directory}/{name}"


def grown_in_code(
    kind: str, options: Mapping[str, Any], prefix: str, batches: Sequence[Mapping[str, Any]]
) -> tuple[Arrays, Arrays]:
    """Every variable before and after the steps, where the maker's table has more rows than the
    checkpoint's: the first are the checkpoint's, the others begin as TensorFlow initialises them.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_resource_variables()
    with tf.Graph().as_default() as graph:
        v1.set_random_seed(11)  # as makers.make does
        train = MAKERS[kind](**options)
        variables = v1.global_variables()
        names = [one.op.name for one in variables]
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            reader = tf.train.load_checkpoint(prefix)
            for one, name in zip(variables, names, strict=True):
                stored = reader.get_tensor(name.replace("/part_0", ""))
                value = session.run(one)
                if value.shape:
                    value[: len(stored)] = stored
                one.load(value if value.shape else stored, session)
            before = dict(zip(names, session.run(variables), strict=True))
            for batch in batches:
                session.run(train, batch)
            return before, dict(zip(names, session.run(variables), strict=True))
