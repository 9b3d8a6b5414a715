"""What does TensorFlow itself say to a graph?"""

from __future__ import annotations

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef


def import_error(meta: MetaGraphDef) -> str | None:
    """The text of the error with which TensorFlow refuses to import ``meta``; None where it
    imports.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef as TensorFlowMeta

    with tf.Graph().as_default():
        try:
            tf.compat.v1.train.import_meta_graph(
                TensorFlowMeta.FromString(meta.SerializeToString()), clear_devices=True
            )
        except Exception as error:  # noqa: BLE001  any refusal is an answer here
            return f"{type(error).__name__}: {error}"
    return None
