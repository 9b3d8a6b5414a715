"""Does a SavedModel bring the files along that fill its lookup tables?"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.errors import GraphRefused, OutputError
from orchestrator.exports.frozen import GraphExportResult, export_graph
from tests import forked

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("forked_tensorflow")]

READS = "InitializeTableFromTextFileV2"
WORDS = [b"b", b"c", b"nothing"]
MAKE = """
import sys
import tensorflow.compat.v1 as tf

directory = sys.argv[1]
tf.disable_eager_execution()
words = tf.placeholder(tf.string, [None], name="words")
rows = tf.get_variable("rows", [4, 2], initializer=tf.random_uniform_initializer(seed=1))
row = 3 - sum(
    1 + tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            f"{directory}/data/{part}/vocabulary.txt", tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        -1,
    ).lookup(words)
    for part in sys.argv[2].split()
)
prediction = tf.identity(tf.gather(rows, tf.clip_by_value(row, 0, 3)), name="prediction")
label = tf.placeholder(tf.float32, [None, 2], name="label")
loss = tf.reduce_mean(tf.squared_difference(prediction, label))
tf.add_to_collection("train_op", tf.train.GradientDescentOptimizer(0.1).minimize(loss))
saver = tf.train.Saver()
with tf.Session() as session:
    session.run([tf.global_variables_initializer(), tf.tables_initializer()])
    saver.save(session, f"{directory}/model.ckpt", global_step=3)
    import numpy as np
    np.save(f"{directory}/expected.npy", session.run(prediction, {words: [b"b", b"c", b"nothing"]}))
"""
LOADED = """
import sys
import numpy as np
import tensorflow as tf

signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
(found,) = signature(words=tf.constant([b"b", b"c", b"nothing"])).values()
np.save(sys.argv[2], found.numpy())
"""


def _made(room: Path, parts: str = "one") -> Path:
    """A checkpoint whose graph looks words up in the vocabulary of each part."""
    for part in parts.split():
        (room / "data" / part).mkdir(parents=True)
        words = "a\nb\nc\n" if part == "one" else "b\n"
        (room / "data" / part / "vocabulary.txt").write_text(words)
    done = forked.run(MAKE, room, parts)
    assert done.returncode == 0, done.stderr[-3000:]
    return room / "model.ckpt-3"


def _exported(
    source: Path, output: Path, allow: Sequence[str] = (READS,), **more: object
) -> GraphExportResult:
    config = parse_config({"source": str(source), "allow_op": list(allow), **more})
    return export_graph(config, str(output), to="saved-model", fetches=["prediction"])


def test_vocabulary_goes_with_the_model_and_is_read_from_wherever_that_lies_then(
    tmp_path: Path,
) -> None:
    source, output = _made(tmp_path), tmp_path / "out"
    found = _exported(source, output)
    assert found.files == ("saved_model.pb", "assets/vocabulary.txt")
    assert found.difference <= 1e-6
    shutil.rmtree(tmp_path / "data")
    assert _exported(source, output).already
    output.rename(tmp_path / "elsewhere")
    loaded = forked.run(LOADED, tmp_path / "elsewhere", tmp_path / "found.npy")
    assert loaded.returncode == 0, loaded.stderr[-3000:]
    expected = np.load(tmp_path / "expected.npy")
    assert len({tuple(row) for row in expected}) == len(WORDS), "else the words make no difference"
    assert np.array_equal(np.load(tmp_path / "found.npy"), expected)


def test_two_vocabularies_of_one_name_stay_two(tmp_path: Path) -> None:
    found = _exported(_made(tmp_path, "one two"), tmp_path / "out")
    assert found.files[1:] == ("assets/2-vocabulary.txt", "assets/vocabulary.txt")
    loaded = forked.run(LOADED, tmp_path / "out", tmp_path / "found.npy")
    assert loaded.returncode == 0, loaded.stderr[-3000:]
    assert np.array_equal(np.load(tmp_path / "found.npy"), np.load(tmp_path / "expected.npy"))


def test_vocabulary_is_read_only_where_that_is_allowed_and_from_where_it_has_been_moved(
    tmp_path: Path,
) -> None:
    source, output = _made(tmp_path), tmp_path / "out"
    with pytest.raises(GraphRefused, match="reads files"):
        _exported(source, output, allow=())
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(GraphRefused, match="isn't there") as lost:
        _exported(source, output)
    assert "--path-map" in (lost.value.remedy or "")
    assert not output.exists()
    moved = {f"{tmp_path}/data/": f"{tmp_path}/moved/"}
    assert _exported(source, output, allow=(), path_map=moved).difference <= 1e-6


def test_export_that_has_lost_its_vocabulary_is_not_complete(tmp_path: Path) -> None:
    source, output = _made(tmp_path), tmp_path / "out"
    _exported(source, output)
    (output / "assets" / "vocabulary.txt").unlink()
    with pytest.raises(OutputError, match=r"has lost vocabulary\.txt"):
        _exported(source, output)
