"""Is what is written of a checkpoint, byte for byte, what TensorFlow was recorded to write of it?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
import pytest

from orchestrator.store.bundle.in_memory import BundleInMemory, TensorInMemory
from orchestrator.store.bundle.index_writer import index_bytes
from orchestrator.store.bundle.packed_strings import packed_strings
from orchestrator.store.bundle.slice_keys import extents_of_spec
from orchestrator.store.bundle.table_writer import BLOCK_BYTES
from orchestrator.store.objects.content import MemoryContent
from tests import forked


class Saved(NamedTuple):
    """One tensor: its key, the spec of its slice as ``SaveV2`` takes it, its value."""

    key: str
    spec: str
    value: np.ndarray | list[bytes]


def _numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


FEW = [
    Saved("column", "3 2 -:0,1", _numbers(3, 1)),
    Saved("column", "3 2 -:1,1", _numbers(3, 1)),
    Saved("empty", "", _numbers(3, 0)),
    Saved("flag", "", np.array([True, False])),
    Saved("global_step", "", np.array(11_000)),
    *(Saved(f"layer_{number:02d}/bias", "", _numbers(number)) for number in range(1, 40)),
    Saved("names", "", [b"", b"one", "zwei ü".encode(), b"x" * 300]),
    Saved("rows", "4 2 0,3:0,2", _numbers(3, 2)),
    Saved("rows", "4 2 3,1:0,2", _numbers(1, 2)),
    Saved("some", "3 0,2", [b"a", b"bb"]),
    Saved("whole", "2 2 0,2:0,2", _numbers(2, 2)),
    Saved("zeros\0and\udcff", "", np.array(1.5)),
]
LONG = "k" * (BLOCK_BYTES // 2)
"""Two of these end a block of the index."""
BLOCKS = [
    *(Saved(f"{head}{LONG}", "", _numbers(1)) for head in ("a", "ca", "cb", *"cdfhij")),
    Saved("\udcff\udcff\x7fz", "", _numbers(1)),
]
RANKS = (
    [Saved("rows", "7 2 0,3:0,2", _numbers(3, 2)), Saved("step", "", np.array(5))],
    [Saved("rows", "7 2 3,4:0,2", _numbers(4, 2)), Saved("words", "", [b"a", b"bc"])],
)

RECORDED = {
    "few": {
        "m-5.data-00000-of-00001": (3538, 2180209537),
        "m-5.index": (1621, 4167201495),
    },
    "blocks": {"m-5.index": (1573315, 2635324541)},
    "ranks": {
        "m-5.data-00000-of-00002": (32, 4043003546),
        "m-5.data-00001-of-00002": (41, 3696129451),
        "m-5.index": (254, 2966407854),
    },
}
"""Size and crc32c of what TensorFlow 2.21 wrote of these: the last test asks it anew."""


def bundle(tensors: Sequence[Saved], shard: int = 0, shards: int = 1) -> BundleInMemory:
    """A data file of them, which lies in memory."""
    held = []
    for key, spec, value in tensors:
        whole, extents = extents_of_spec(spec)
        if isinstance(value, list):
            pieces, crc = packed_strings(value)
            held.append(TensorInMemory(key, "string", (len(value),), pieces, crc, whole, extents))
        else:
            memory = (value.tobytes(),)
            held.append(
                TensorInMemory(key, value.dtype.name, value.shape, memory, None, whole, extents)
            )
    return BundleInMemory("m-5", held, shard, shards)


def said(data: bytes) -> tuple[int, int]:
    """How long it is, and its crc32c."""
    return len(data), google_crc32c.value(data)


def written(content: MemoryContent) -> tuple[str, tuple[int, int]]:
    """A file's name, and what's said of it."""
    return content.name, said(content.read(0, content.size_bytes))


def test_checkpoint_of_numbers_texts_and_slices_is_as_recorded() -> None:
    made = bundle(FEW)
    assert dict(map(written, (made.data(), made.index()))) == RECORDED["few"]


def test_index_of_several_blocks_is_as_recorded() -> None:
    assert dict([written(bundle(BLOCKS).index())]) == RECORDED["blocks"]


def test_index_over_the_files_of_two_ranks_is_as_recorded() -> None:
    made = [bundle(tensors, rank, len(RANKS)) for rank, tensors in enumerate(RANKS)]
    index = index_bytes([one.report() for one in reversed(made)])
    assert (
        dict([written(one.data()) for one in made], **{"m-5.index": said(index)})
        == RECORDED["ranks"]
    )


RECORD = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from tests.store.test_recorded_bytes import BLOCKS, FEW, RANKS, said
tf1 = tf.compat.v1
tf1.disable_eager_execution()

def save(prefix, tensors):
    values = [np.array(one.value, object) if isinstance(one.value, list) else one.value for one in tensors]
    with tf.Graph().as_default(), tf1.Session() as session:
        feeds = [tf1.placeholder(tf.as_dtype(value.dtype)) for value in values]
        keys = [one.key.encode("utf-8", "surrogateescape") for one in tensors]
        specs = [one.spec for one in tensors]
        save = tf.raw_ops.SaveV2(prefix=prefix, tensor_names=keys, shape_and_slices=specs, tensors=feeds)
        session.run(save, dict(zip(feeds, values)))

here = Path(sys.argv[1])
save(str(here / "few/m-5"), FEW)
save(str(here / "blocks/m-5"), BLOCKS)
parts = [str(here / f"part-{rank}") for rank in range(len(RANKS))]
for part, tensors in zip(parts, RANKS):
    save(part, tensors)
with tf.Graph().as_default(), tf1.Session() as session:
    session.run(tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(here / "ranks/m-5")))
for name in ("few", "blocks", "ranks"):
    for file in sorted((here / name).iterdir()):
        print(json.dumps([name, file.name, *said(file.read_bytes())]))
"""


@pytest.mark.tf
def test_record_is_what_tensorflow_writes_today(tmp_path: Path) -> None:
    for name in RECORDED:
        (tmp_path / name).mkdir()
    done = forked.run(RECORD, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for line in done.stdout.splitlines():
        name, file, size, crc = json.loads(line)
        found.setdefault(name, {})[file] = (size, crc)
    assert {
        name: {file: found[name][file] for file in files} for name, files in RECORDED.items()
    } == RECORDED
