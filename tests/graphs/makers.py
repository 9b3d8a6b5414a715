"""How does a test's checkpoint come about? A graph is built, trained for a few steps, and saved with
``tf.train.Saver``.

Rule: run as a program (``python -m tests.graphs.makers KIND DIRECTORY [OPTION=VALUE ...]``), so that
no test process needs TensorFlow to get a checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.graphs.feeds import feeds_for
from tests.graphs.networks import MAKERS, tf1
from tests.graphs.pipeline_makers import PIPELINES, fill

STEPS_BEFORE_SAVE = 3


def make(
    kind: str,
    directory: Path,
    *,
    steps: int = STEPS_BEFORE_SAVE,
    name: str = "model.ckpt",
    number: int | None = None,
    version: int = 2,
    **options: Any,
) -> Path:
    """Build, train ``steps`` steps, save; the prefix of the checkpoint. Needs TensorFlow in this
    process.

    ``number`` is what the file's name ends in, by default ``steps``; ``version`` is the format, 1
    as before TensorFlow 0.12.
    """
    tf = tf1()
    tf.disable_resource_variables()
    directory.mkdir(parents=True, exist_ok=True)
    devices = options.pop("devices", False)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(11)
        train_op = (
            MAKERS[kind](**options)
            if kind in MAKERS
            else PIPELINES[kind](directory / "data", **options)
        )
        if train_op not in tf.get_collection("train_op") and kind != "ema":
            tf.add_to_collection("train_op", train_op)
        saver = tf.train.Saver(max_to_keep=5, write_version=version)
        with tf.Session(graph=graph) as session:
            # moving averages start from them
            session.run(tf.variables_initializer(tf.trainable_variables()))
            session.run(
                [
                    tf.variables_initializer(_untrained(tf)),
                    tf.local_variables_initializer(),
                    tf.tables_initializer(),
                ]
            )
            coordinator = tf.train.Coordinator()
            threads = (
                tf.train.start_queue_runners(session, coordinator)
                if tf.get_collection("queue_runners")
                else []
            )
            fill(tf, session)
            for step in range(steps):
                session.run(train_op, feeds_for(kind)(step))
            prefix = saver.save(
                session, str(directory / name), global_step=steps if number is None else number
            )
            coordinator.request_stop()
            if threads:
                session.run(
                    [
                        op
                        for op in graph.get_operations()
                        if op.type == "QueueCloseV2" and "cancel" in op.name.lower()
                    ]
                    or []
                )
            coordinator.join(threads, stop_grace_period_secs=5, ignore_live_threads=True)
    if devices:  # trained here without them, since no such machines are here
        with tf.Graph().as_default():
            tf.add_to_collection("train_op", MAKERS[kind](devices=True, **options))
            tf.train.export_meta_graph(f"{prefix}.meta", saver_def=tf.train.Saver().as_saver_def())
    return Path(prefix)


def _untrained(tf: Any) -> list[Any]:
    trained = {variable.name for variable in tf.trainable_variables()}
    return [variable for variable in tf.global_variables() if variable.name not in trained]


def _value(text: str) -> Any:
    return {"true": True, "false": False}.get(
        text, int(text) if text.lstrip("-").isdigit() else text
    )


def main(arguments: list[str]) -> None:
    kind, directory, *options = arguments
    parsed = {key: _value(value) for key, _, value in (option.partition("=") for option in options)}
    sys.stdout.write(f"{make(kind, Path(directory), **parsed)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
