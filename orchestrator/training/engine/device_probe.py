"""Which devices and libraries does this machine's TensorFlow see?

Rule: run as ``python -m orchestrator.training.engine.device_probe`` in a process of its own, it
prints one JSON object. Listing devices opens none: no GPU memory is taken from a training beside
it.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def devices() -> dict[str, Any]:
    """TensorFlow's version, its GPUs' names, and the CUDA and cuDNN versions that it was built for
    (None on a CPU build).
    """
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    return {
        "tensorflow": tf.__version__,
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        "cuda": build.get("cuda_version") if build.get("is_cuda_build") else None,
        "cudnn": build.get("cudnn_version") if build.get("is_cuda_build") else None,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(devices()) + "\n")
