"""Which operations does the TensorFlow of this environment register?

Rule: asked once, with TensorFlow, and written down, so that everything outside this room knows it
without importing TensorFlow. The shipped file is made by ``python -m
orchestrator.training.engine.opset_export orchestrator/graph/graphdef/opset.json.gz``; for another
TensorFlow ``graph.graphdef.opset`` runs the same command into its cache.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any


def describe_installed() -> dict[str, Any]:
    """The installed TensorFlow's operations and GraphDef versions.

    Returns:
        ``tensorflow`` (version text), ``graph_def_version``, ``min_consumer``, ``min_producer``
        (integers), ``gpu_only`` (operation types with a GPU kernel and no CPU kernel),
        ``without_kernel`` (neither), ``ops`` (base64 of a serialized OpList without its
        documentation).
    """
    import tensorflow as tf
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session
    from tensorflow.python.framework import kernels

    op_list = op_def_pb2.OpList.FromString(
        pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    )
    _drop_documentation(op_list)
    devices: dict[str, set[str]] = {}
    for kernel in kernels.get_all_registered_kernels().kernel:
        devices.setdefault(kernel.op, set()).add(kernel.device_type)
    names = sorted(op.name for op in op_list.op)
    return {
        "tensorflow": tf.__version__,
        "graph_def_version": tf.version.GRAPH_DEF_VERSION,
        "min_consumer": tf.version.GRAPH_DEF_VERSION_MIN_CONSUMER,
        "min_producer": tf.version.GRAPH_DEF_VERSION_MIN_PRODUCER,
        "gpu_only": [
            name
            for name in names
            if "GPU" in devices.get(name, ()) and not devices[name] & {"CPU", "DEFAULT"}
        ],
        "without_kernel": [
            name for name in names if not devices.get(name, set()) & {"CPU", "GPU", "DEFAULT"}
        ],
        "ops": base64.b64encode(op_list.SerializeToString(deterministic=True)).decode(),
    }


def _drop_documentation(op_list: Any) -> None:
    for op in op_list.op:
        op.ClearField("summary")
        op.ClearField("description")
        for argument in (*op.input_arg, *op.output_arg):
            argument.ClearField("description")
            argument.ClearField("experimental_full_type")
        for attribute in op.attr:
            attribute.ClearField("description")


def write(path: Path) -> None:
    """Write the description to ``path`` (gzipped JSON), as a whole or not at all."""
    data = gzip.compress(json.dumps(describe_installed(), sort_keys=True).encode(), mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    unfinished.replace(path)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
