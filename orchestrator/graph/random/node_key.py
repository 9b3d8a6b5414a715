"""Which constant of its own does a random operation mix into the step's key?

Rule: out of its name alone, so that it's the same in every process.
"""

from __future__ import annotations

import hashlib

import numpy as np


def node_key(name: str) -> np.ndarray:
    """A node's own constant: int64 ``[2]``."""
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype="<i8").astype(np.int64)
