"""Is what goes into the store from memory, byte for byte, what TensorFlow writes itself?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import forked
from tests.training.test_state_for_save import DTYPES

pytestmark = [pytest.mark.tf, pytest.mark.turns(3)]

HEAD = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from orchestrator.store.bundle.in_memory import BundleInMemory
from orchestrator.training.state.bundle_writer import Stored, in_memory
tf1 = tf.compat.v1
tf1.disable_eager_execution()
here = Path(sys.argv[1])

def compare(stored):
    with tf.Graph().as_default(), tf1.Session() as session:
        feeds = [tf1.placeholder(tf.as_dtype(item.dtype)) for item in stored]
        save = tf.raw_ops.SaveV2(
            prefix=str(here / "m-5"),
            tensor_names=[item.key for item in stored],
            shape_and_slices=[item.slice_spec for item in stored],
            tensors=feeds,
        )
        session.run(save, {feed: item.value for feed, item in zip(feeds, stored)})
    bundle = BundleInMemory("m-5", [in_memory(item) for item in stored])
    for content in (bundle.data(), bundle.index()):
        theirs = (here / content.name).read_bytes()
        assert len(theirs) == content.size_bytes, (content.name, len(theirs), content.size_bytes)
        assert content.read(0, content.size_bytes) == theirs, content.name
    print("equal", len(stored))
"""

EVERY_DTYPE = """
stored = []
for name in DTYPES:
    dtype = tf.as_dtype(name)
    value = np.frombuffer(bytes(range(64)), np.uint8)[: 4 * dtype.size] & 1
    value = np.frombuffer(value.tobytes(), dtype.as_numpy_dtype)
    stored.append(Stored(name, "", dtype.name, value))
compare(stored)
"""

SHAPES = """
texts = np.array([[b"", "ä".encode()], [b"x" * 300, b"\\0"]], object)
compare([
    Stored("empty", "", "float32", np.zeros((3, 0), np.float32)),
    Stored("no text", "", "string", np.array([], object)),
    Stored("one text", "", "string", np.array(b"alone", object)),
    Stored("scalar", "", "int64", np.int64(7)),
    Stored("texts", "", "string", texts),
    Stored("transposed", "", "float64", np.arange(12.0).reshape(3, 4).T),
    Stored("wide", "", "float32", np.arange(3_000_000, dtype=np.float32).reshape(3000, 1000)),
    Stored("zeros\\0in its name", "", "bool", np.array([True, False])),
])
"""

SLICES = """
rows = np.arange(60, dtype=np.float32).reshape(20, 3)
compare([
    Stored("columns", "20 3 -:0,1", "float32", rows[:, :1]),
    Stored("columns", "20 3 -:1,2", "float32", rows[:, 1:]),
    Stored("many", "1000000 1 64,100:0,1", "int32", np.arange(100, dtype=np.int32).reshape(100, 1)),
    Stored("many", "1000000 1 8191,5:0,1", "int32", np.arange(5, dtype=np.int32).reshape(5, 1)),
    Stored("parts", "20 3 0,7:0,3", "float32", rows[:7]),
    Stored("parts", "20 3 7,13:0,3", "float32", rows[7:]),
    Stored("texts", "3 0,2", "string", np.array([b"a", b"bb"], object)),
    Stored("whole", "20 3 0,20:0,3", "float32", rows),
])
"""

MANY = """
compare([
    Stored(f"scope_{number // 100:03d}/layer_{number:05d}/kernel", "", "float32", np.float32(number))
    for number in range(6_000)
])
"""


@pytest.mark.parametrize(
    ("program", "tensors"),
    [
        pytest.param(f"DTYPES = {DTYPES!r}\n{EVERY_DTYPE}", len(DTYPES), id="every dtype"),
        pytest.param(SHAPES, 8, id="shapes and strings"),
        pytest.param(SLICES, 8, id="slices"),
        pytest.param(MANY, 6_000, id="an index of several blocks"),
    ],
)
def test_bundle_from_memory_has_the_bytes_of_tensorflow_own(
    tmp_path: Path, program: str, tensors: int
) -> None:
    done = forked.run(HEAD + program, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["equal", str(tensors)]
