"""How does this process come by TensorFlow?

Rule: the environment that TensorFlow reads once, at import, is set here, and every other module of this room takes ``tf`` from here.
Values that the operator has set stay.
"""

from __future__ import annotations

import os
from typing import Any

for _name, _value in {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # a lost peer makes dozens of lines in each worker; what matters is raised, and told once by us
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # also for what touches the GPU before our first session
    "GRPC_VERBOSITY": "NONE",  # its own setting overrides the line above: ERROR would bring the lines about closed sockets back
}.items():
    os.environ.setdefault(_name, _value)

import tensorflow as tf  # noqa: E402  (the environment comes first)

v1: Any = tf.compat.v1

__all__ = ["tf", "v1"]
