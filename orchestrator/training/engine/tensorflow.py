"""How is TensorFlow imported into this process?

Rule: the environment that TensorFlow reads once, at import, is set here, and every other module of
this room takes ``tf`` and ``v1`` from here. They look like TensorFlow's public packages, but each
name comes from the module that defines it, since ``import tensorflow`` takes twice as long as the
parts that continue a graph, and 190 MB more. Whoever else imports TensorFlow in this process (an
input function) gets all of it. Values of the environment that the operator has set stay.
"""

from __future__ import annotations

import os
from typing import Any

for _name, _value in {
    # a lost peer makes dozens of lines in each worker; what matters is raised, and told once by us
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # also for what touches the GPU before our first session
    # its own setting overrides the line above: ERROR would bring the lines about closed sockets
    # back
    "GRPC_VERBOSITY": "NONE",
}.items():
    os.environ.setdefault(_name, _value)

from orchestrator.training.engine import lazy_import  # noqa: E402  (the environment comes first)

lazy_import.begin()

from tensorflow.python.ops import (  # noqa: E402  (not public, and needed)
    collective_ops,
    gen_array_ops,
    gen_resource_variable_ops,
    gen_state_ops,
)

tf: Any = lazy_import.Names("")
v1: Any = lazy_import.Names("compat.v1")

__all__ = [
    "collective_ops",
    "gen_array_ops",
    "gen_resource_variable_ops",
    "gen_state_ops",
    "tf",
    "v1",
]
