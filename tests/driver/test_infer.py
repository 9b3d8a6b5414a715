"""``infer`` gives what plain TensorFlow gives, and refuses what it can't fetch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.driver.infer import infer
from orchestrator.errors import GraphRefused, OrchestratorError, UserCodeError
from tests import forked
from tests.graphs.feeds import feeds_for

pytestmark = pytest.mark.turns(32, "whole runs")

PLAIN = """
import sys, numpy, tensorflow.compat.v1 as tf
with tf.Graph().as_default(), tf.Session() as session:
    tf.train.import_meta_graph(sys.argv[1] + ".meta").restore(session, sys.argv[1])
    numpy.save(sys.argv[2], session.run("loss:0", dict(numpy.load(sys.argv[3]))))
"""


@pytest.mark.tf
def test_infer_of_a_checkpoint_gives_what_plain_tensorflow_gives(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    prefix = tf1_checkpoint("mlp")
    batch = {name: np.asarray(value) for name, value in feeds_for("mlp")(5).items()}
    np.savez(tmp_path / "batch.npz", **batch)  # type: ignore[arg-type]
    feeds = {name: json.dumps(value.tolist()) for name, value in batch.items()}
    (found,) = infer(parse_config({"source": str(prefix), "feed": feeds}), ["loss"])
    done = forked.run(PLAIN, prefix, tmp_path / "loss.npy", tmp_path / "batch.npz")
    assert done.returncode == 0, done.stderr
    assert found["loss:0"] == pytest.approx(float(np.load(tmp_path / "loss.npy")), rel=1e-5)


@pytest.mark.tf
def test_infer_of_several_batches_fetches_each(tf1_checkpoint: Callable[..., Path]) -> None:
    config = parse_config(
        {"source": str(tf1_checkpoint("mlp")), "input": "tests.end_to_end.inputs:mlp"}
    )
    found = infer(config, ["loss", "x:0"], batches=3)
    assert [set(each) for each in found] == [{"loss:0", "x:0"}] * 3
    assert len({float(each["loss:0"]) for each in found}) == 3


@pytest.mark.tf
def test_arrays_are_gone_through_once_in_their_order_whatever_the_most_batches(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    rows = np.arange(60, dtype=np.float32).reshape(10, 6)
    np.save(tmp_path / "x.npy", rows)
    np.save(tmp_path / "y.npy", np.zeros(10, np.int64))
    values = {
        "source": str(tf1_checkpoint("mlp")),
        "array": {"x:0": str(tmp_path / "x.npy"), "y:0": str(tmp_path / "y.npy")},
        "batch_size": 4,
    }
    found = [each["x:0"] for each in infer(parse_config(values), ["x:0", "loss"], batches=9)]
    assert [len(each) for each in found] == [4, 4, 2]
    assert np.concatenate(found).tolist() == rows.tolist()


@pytest.mark.tf
def test_infer_of_a_batch_that_does_not_fit_says_which(tf1_checkpoint: Callable[..., Path]) -> None:
    config = parse_config(
        {"source": str(tf1_checkpoint("mlp")), "feed": {"x:0": "[[1.0]]", "y:0": "[0]"}}
    )
    with pytest.raises(OrchestratorError, match=r"x:0|batch 0"):
        infer(config, ["loss"])


@pytest.mark.tf
def test_infer_of_a_tensor_that_is_not_there_is_refused(
    tf1_checkpoint: Callable[..., Path],
) -> None:
    with pytest.raises(GraphRefused, match="no tensor nothing"):
        infer(parse_config({"source": str(tf1_checkpoint("mlp")), "input": "m:f"}), ["nothing"])


FIVE = '''
import os, signal
from pathlib import Path
import numpy as np

def batches(ctx):
    for number in range(ctx.position + ctx.rank, 5, ctx.world_size):
        x = np.full((3, 6), number, np.float32)
        yield {"x:0": x, "y:0": np.zeros(3, np.int64)}

def killing(ctx):
    """Once, at rank 1's first batch, the actor that asked for it dies."""
    if ctx.rank == 1 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getppid(), signal.SIGKILL)
    return batches(ctx)
'''


@pytest.mark.tf
@pytest.mark.ray
def test_infer_of_two_workers_gives_what_one_gives_in_the_order_of_the_batches(
    tf1_checkpoint: Callable[..., Path],
    tmp_path: Path,
    ray_address: str,
) -> None:
    """Seven batches, the last of them short: an uneven share, and rows that don't divide."""
    draw = np.random.default_rng(3)
    np.save(tmp_path / "x.npy", draw.normal(size=(26, 6)).astype(np.float32))
    np.save(tmp_path / "y.npy", draw.integers(0, 3, 26))
    values = {
        "source": str(tf1_checkpoint("mlp")),
        "array": {"x:0": str(tmp_path / "x.npy"), "y:0": str(tmp_path / "y.npy")},
        "batch_size": 4,
    }
    alone = infer(parse_config(values), ["x:0", "loss"], batches=0)
    shared = infer(
        parse_config({**values, "workers": 2, "address": ray_address}), ["x:0", "loss"], batches=0
    )
    assert [len(each["x:0"]) for each in alone] == [4, 4, 4, 4, 4, 4, 2]
    assert np.concatenate([each["x:0"] for each in alone]) == pytest.approx(
        np.load(tmp_path / "x.npy")
    )
    assert len(shared) == len(alone)
    for one, other in zip(alone, shared, strict=True):
        assert {name: value.tobytes() for name, value in one.items()} == {
            name: value.tobytes() for name, value in other.items()
        }
    config = parse_config({**values, "workers": 2, "address": ray_address})
    with pytest.raises(UserCodeError, match="can't be run"):
        infer(config.model_copy(update={"array": {"y:0": str(tmp_path / "y.npy")},
                                        "feed": {"x:0": "[[1.0]]"}}), ["loss"], batches=0)  # fmt: skip


@pytest.mark.tf
@pytest.mark.ray
def test_infer_of_an_input_function_that_loses_a_worker_gives_what_one_gives(
    tf1_checkpoint: Callable[..., Path],
    tmp_path: Path,
    ray_address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "five.py").write_text(FIVE)
    monkeypatch.chdir(tmp_path)
    served = {"source": str(tf1_checkpoint("mlp")), "input": "five.py:batches"}
    here = infer(parse_config(served), ["loss"], batches=0)
    there = infer(
        parse_config({**served, "workers": 2, "address": ray_address}), ["loss"], batches=0
    )
    assert len(here) == 5
    assert here == there
    lossy = {**served, "input": "five.py:killing", "workers": 2, "address": ray_address}
    assert infer(parse_config(lossy), ["loss"], batches=0) == here
    assert (tmp_path / "killed").exists()
