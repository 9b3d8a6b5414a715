"""Checkpoints in TensorFlow's V1 format without TensorFlow: tables that hold the values themselves.

``tests/exports/test_salvage.py`` and the corpus read what TensorFlow wrote; this one is for what is
to be damaged at a known place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.store.bundle.slice_keys import slice_key
from tests.fakes.bundles import NUMBERS, meta_bytes, serialize, table_bytes


def write_v1(directory: Path, prefix: str, *shards: Mapping[str, Any]) -> list[Path]:
    """A checkpoint of one file, or of one for each of several shards, and its graph; a table's
    records lie in a block each, what it holds in the first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    count = len(shards)
    names = [f"{prefix}-{number:05d}-of-{count:05d}" for number in range(count)]
    files = [directory / name for name in (names if count > 1 else [prefix])]
    for file, tensors in zip(files, shards, strict=True):
        file.write_bytes(v1_bytes(tensors))
    everything = {key: value for tensors in shards for key, value in tensors.items()}
    (directory / f"{prefix}.meta").write_bytes(meta_bytes(everything))
    return files


def v1_bytes(tensors: Mapping[str, Any]) -> bytes:
    """One shard with whole tensors of numbers."""
    arrays = {key: np.asarray(tensors[key]) for key in sorted(tensors)}
    metas = [
        {
            "name": key.encode(),
            "shape": {"dim": [{"size": size} for size in array.shape]},
            "type": NUMBERS[array.dtype.name],
            "slice": [{"extent": [{} for _ in array.shape]}],
        }
        for key, array in arrays.items()
    ]
    records = {
        slice_key(key, tuple((0, -1) for _ in array.shape)): {
            "name": key.encode(),
            "data": {"dtype": NUMBERS[array.dtype.name], "tensor_content": array.tobytes()},
        }
        for key, array in arrays.items()
    }
    items = [(b"", serialize("V1Entry", meta={"tensor": metas}))]
    items += [(key, serialize("V1Entry", data=record)) for key, record in sorted(records.items())]
    return table_bytes(items, per_block=1)
