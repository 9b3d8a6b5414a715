"""Of which types may a checkpoint hold a variable in parts?

Rule: TensorFlow puts parts together for some types only (``GetSliceValue`` in
``tensor_bundle.cc``): parts of any other would be a checkpoint that nobody restores.
"""

from __future__ import annotations

SLICEABLE = frozenset(
    {
        *("float32", "float64", "bfloat16", "complex64", "complex128", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "qint8", "quint8", "qint32"),
    }
)
"""The types of which TensorFlow reads parts. Not among them: float16, strings, the wider unsigned
ones; a test asks TensorFlow for each.
"""
