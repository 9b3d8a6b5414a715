"""Are large tensors read as TensorFlow reads them, and never wrong ones?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.training.state.large_tensors import LARGE_BYTES, index_of, large_tensor
from tests.fakes.bundles import write_checkpoint

ROWS = 600_000
DTYPES = (
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "uint8",
    "bool",
    "complex64",
)
WRITE = """
import sys, numpy as np, tensorflow.compat.v1 as tf
tf.disable_eager_execution()
rows = int(sys.argv[2])
values = {}
with tf.Session() as session:
    for name in sys.argv[3:]:
        numbers = np.arange(rows * 2).reshape(rows, 2) % 251
        values[name] = tf.constant(numbers.astype(tf.as_dtype(name).as_numpy_dtype), name=name)
    names = list(values)
    session.run(tf.raw_ops.SaveV2(prefix=sys.argv[1], tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(values.values())))
"""


@pytest.fixture(scope="module")
def written_by_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> str:
    prefix = str(tmp_path_factory.mktemp("large") / "m-1")
    subprocess.run(
        [sys.executable, "-c", WRITE, prefix, str(ROWS), *DTYPES],
        check=True,
        timeout=120,
        capture_output=True,
    )
    return prefix


@pytest.mark.turns(4, "what large ones cost")
@pytest.mark.tf
@pytest.mark.parametrize("name", DTYPES)
def test_large_tensor_of_each_dtype_is_what_tensorflow_saved(
    written_by_tensorflow: str, name: str
) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    index = index_of(written_by_tensorflow)
    assert index is not None
    read = large_tensor(index, written_by_tensorflow, name, dtype)
    assert read is not None
    assert read.dtype == dtype
    assert read.ctypes.data % 64 == 0
    np.testing.assert_array_equal(read, (np.arange(ROWS * 2).reshape(ROWS, 2) % 251).astype(dtype))


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    rows = np.arange(LARGE_BYTES, dtype=np.float32)
    write_checkpoint(
        tmp_path,
        "m-1",
        {"large": rows, "small": np.ones(4, np.float32), "global_step": np.int64(1)},
    )
    return str(tmp_path / "m-1")


def read(prefix: str, key: str, dtype: type = np.float32) -> np.ndarray | None:
    index = index_of(prefix)
    assert index is not None
    return large_tensor(index, prefix, key, np.dtype(dtype))


def test_small_tensors_other_dtypes_and_unknown_keys_are_left_to_tensorflow(prefix: str) -> None:
    assert read(prefix, "large") is not None
    assert read(prefix, "small") is None
    assert read(prefix, "large", np.float64) is None
    assert read(prefix, "nowhere") is None


def test_flipped_bit_is_a_corrupt_checkpoint(prefix: str) -> None:
    file = Path(f"{prefix}.data-00000-of-00001")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptCheckpoint, match="'large' fails its checksum"):
        read(prefix, "large")


def test_short_file_is_a_corrupt_checkpoint(prefix: str) -> None:
    file = Path(f"{prefix}.data-00000-of-00001")
    file.write_bytes(file.read_bytes()[:LARGE_BYTES])
    with pytest.raises(CorruptCheckpoint, match="cut off"):
        read(prefix, "large")


def test_other_format_has_no_index(tmp_path: Path) -> None:
    assert index_of(str(tmp_path / "model.ckpt")) is None
