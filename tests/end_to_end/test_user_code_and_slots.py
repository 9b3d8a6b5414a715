"""Does a real run end well, or start, where the user's code leaves and where a checkpoint lacks
what an optimizer can make anew?
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.driver.main import resume
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.journal import read_journal
from tests import forked
from tests.chaos.runs import Watcher
from tests.end_to_end.test_settings import config_for
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]

LEAVES = """
import sys
from tests.end_to_end import inputs

def batches(ctx):
    for number, batch in enumerate(inputs.mlp(ctx)):
        if ctx.rank == 1 and number == 4:
            sys.exit("the shard is empty")
        yield batch
"""

WITHOUT = """
import sys
import tensorflow as tf
prefix, target, *dropped = sys.argv[1:]
reader = tf.train.load_checkpoint(prefix)
names = [name for name in reader.get_variable_to_shape_map() if not any(name.endswith(end) for end in dropped)]
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    values = [reader.get_tensor(name) for name in names]
    session.run(tf.raw_ops.SaveV2(prefix=target, tensor_names=names, shape_and_slices=[""] * len(names), tensors=values))
"""


@pytest.fixture
def cluster(ray_address: str) -> Iterator[None]:
    """This process, connected to the shared cluster."""
    import ray

    ray.init(address=ray_address, log_to_driver=False, ignore_reinit_error=True)
    yield
    ray.shutdown()


def test_input_function_that_calls_sys_exit_ends_the_run_with_its_words_and_a_last_save(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, cluster: None
) -> None:
    """The run used to stand still without a word, its worker giving signs of life."""
    (tmp_path / "leaves.py").write_text(LEAVES)
    settings = {"until_step": 10**6, "workers": 2, "input": f"{tmp_path / 'leaves.py'}:batches"}
    result = resume(
        config_for(tf1_checkpoint("mlp", optimizer="sgd"), tmp_path / "out", **settings)
    )
    assert (result.status, result.exit_code) == ("failed", 1)
    assert result.error is not None
    assert result.error["kind"] == "UserCodeError"
    assert "SystemExit: the shard is empty" in result.error["message"]
    assert result.final_step == 3 + 4
    assert result.checkpoint is not None
    assert result.checkpoint.endswith(f"-{result.final_step}")


def lacking(prefix: Path, directory: Path, *dropped: str) -> Path:
    """A copy of a checkpoint without the variables whose names end so."""
    directory.mkdir()
    target = directory / prefix.name
    done = forked.run(WITHOUT, prefix, target, *dropped, cwd=directory)
    assert done.returncode == 0, done.stderr[-2000:]
    (directory / f"{prefix.name}.meta").write_bytes(Path(f"{prefix}.meta").read_bytes())
    return target


def test_checkpoint_without_optimizer_slots_is_resumed_with_a_warning_and_the_workers_agree(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, cluster: None
) -> None:
    """`check` said that they start from their initial values, and `resume` refused after ten
    formations.
    """
    source = lacking(
        tf1_checkpoint("mlp", optimizer="adam"),
        tmp_path / "src",
        "/Adam",
        "/Adam_1",
        "beta1_power",
        "beta2_power",
    )
    watcher = Watcher()
    result = resume(config_for(source, tmp_path / "out", steps=5, workers=2), observer=watcher)
    assert (result.status, result.final_step, list(result.incidents)) == ("done", 8, [])
    warnings = [
        event["reason"]
        for event in read_journal(open_location(str(tmp_path / "out")))
        if event["event"] == "warning"
    ]
    assert any("optimizer slots" in text for text in warnings)
    assert list(result.warnings) == list(dict.fromkeys(warnings)), "who asks by --json is told, too"
    assert not watcher.named("join_failed")


def test_checkpoint_that_does_not_fit_ends_at_once_with_the_reason(
    tmp_path: Path,
    tf1_checkpoint: CheckpointLibrary,
    cluster: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What `check` can't know of is a misfit all the same: it isn't tried ten times."""
    source = lacking(tf1_checkpoint("mlp", optimizer="sgd"), tmp_path / "src", "hidden/kernel")
    # The driver doesn't look, as with a checkpoint that changes later
    monkeypatch.setattr("orchestrator.driver.startup.Source.keys", lambda self: None)
    watcher = Watcher()
    result = resume(config_for(source, tmp_path / "out", steps=5), observer=watcher)
    assert result.error is not None
    assert result.error["kind"] == "GraphMismatch"
    assert "hidden/kernel" in result.reason
    assert len(watcher.named("generation")) == 1
