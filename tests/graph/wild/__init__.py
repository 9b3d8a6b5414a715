"""How do people write their TensorFlow 1 training code? One small graph for each habit, with what
should be found in it.

Rule: as published code does it, with its names and its detours; nothing here is written so that the
analysis has it easy. Each maker builds into the default graph and says which operation trains it;
inputs are ``x:0`` float32 ``[rows, 4]`` and ``y:0`` float32 ``[rows]``. This is the one registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.graph.wild.gradient_names import (
    all_in_gradient_scope,
    gradient_layers,
    named_gradients,
    own_gradient_scope,
)
from tests.graph.wild.own_updates import (
    checked_numbers,
    decayed_weights,
    hand_written_adam,
    loss_scaled,
    noisy_gradients,
    scheduled,
    tower_averages,
)
from tests.graph.wild.parts import Habit
from tests.graph.wild.several_losses import (
    adversarial,
    every_other_step,
    phases,
    q_learning,
    soft_targets,
    wasserstein,
)
from tests.graph.wild.statistics import (
    contrib_normalisation,
    measured,
    running_statistics,
    shadowed,
    switched_normalisation,
    tutorial_normalisation,
)
from tests.graph.wild.tables import recurrent, sparse_columns, text_classes, word_vectors

HABITS: dict[str, Callable[[Any], Habit]] = {
    maker.__name__: maker
    for maker in (
        recurrent,
        word_vectors,
        sparse_columns,
        text_classes,
        adversarial,
        wasserstein,
        q_learning,
        soft_targets,
        shadowed,
        noisy_gradients,
        loss_scaled,
        hand_written_adam,
        switched_normalisation,
        contrib_normalisation,
        tutorial_normalisation,
        every_other_step,
        own_gradient_scope,
        all_in_gradient_scope,
        gradient_layers,
        named_gradients,
        decayed_weights,
        measured,
        scheduled,
        tower_averages,
        phases,
        checked_numbers,
        running_statistics,
    )
}


@dataclass(frozen=True)
class Made:
    """A saved graph: its prefix, and what its habit says."""

    prefix: Path
    ops: list[str]
    feeds: dict[str, Any]
    apart: tuple[str, ...]


def make_habit(name: str, directory: Path) -> Made:
    """Build, initialise and save one of the graphs, without a train_op collection where its author
    wouldn't have had one.
    """
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_resource_variables()
    tf.disable_control_flow_v2()
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(11)
        habit = HABITS[name](tf)
        saver = tf.train.Saver()
        with tf.Session(graph=graph, config=tf.ConfigProto(allow_soft_placement=True)) as session:
            session.run(
                [
                    tf.global_variables_initializer(),
                    tf.local_variables_initializer(),
                    tf.tables_initializer(),
                ]
            )
            return Made(
                Path(saver.save(session, str(directory / "model.ckpt"), global_step=0)),
                habit.names,
                dict(habit.feeds),
                habit.apart,
            )
