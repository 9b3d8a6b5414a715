"""Does plain TensorFlow 1 code, in a process without this package, go on from what we write?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.errors import CorruptCheckpoint, GraphMismatch, OutputError
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.state.state import State
from tests import forked
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks
from tests.training.ranks import outcome_of, worker_graph

pytestmark = pytest.mark.tf

PLAIN_TF1 = """
import sys, json
sys.modules["orchestrator"] = None  # a process without this package
import numpy as np
import tensorflow as tf
tf = tf.compat.v1
prefix, feeds = sys.argv[1], dict(np.load(sys.argv[2]))
with tf.Graph().as_default(), tf.Session() as session:
    saver = tf.train.import_meta_graph(prefix + ".meta", clear_devices=True)
    saver.restore(session, prefix)
    train_op = tf.get_collection("train_op")[0]
    before = {v.name: session.run(v.read_value() if hasattr(v, "read_value") else v).ravel().tolist() for v in tf.global_variables()}
    feeds = {name.replace("|", ":"): value for name, value in feeds.items()}
    session.run(train_op, feeds)
    step = session.run(tf.train.get_global_step().read_value())
print(json.dumps({"before": before, "step": int(step)}))
"""


def plain_tf1(prefix: Path, feeds: dict[str, np.ndarray], scratch: Path) -> dict[str, Any]:
    """What three lines of TF1 code find in a checkpoint, and the step after one more training step."""
    np.savez(
        scratch / "feeds.npz",
        **{name.replace(":", "|"): value for name, value in feeds.items()},  # type: ignore[arg-type]
    )
    done = forked.run(PLAIN_TF1, prefix, scratch / "feeds.npz", cwd=scratch)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_state(trainer: Any, directory: str, prefix: str) -> list[Path]:
    from tests.training.writing import write_bundle

    return write_bundle(trainer.state(), trainer.graph, Path(directory), prefix)


GRAPHS = [
    ("mlp", {"optimizer": "adam"}),
    ("mlp", {"optimizer": "momentum", "resource": True}),
    ("embedding", {"optimizer": "adagrad", "partitions": 3}),
    ("ema", {}),
    ("conv_bn", {"style": "group"}),
]


@pytest.mark.parametrize(
    ("kind", "options"),
    GRAPHS,
    ids=[f"{kind}-{len(options)}" for kind, options in GRAPHS],  # type: ignore[arg-type]
)
def test_bundle_after_training_loads_in_plain_tf1_and_trains_on(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    tmp_path: Path,
    kind: str,
    options: dict[str, Any],
) -> None:
    ranks = new_ranks(2)
    start = ranks.start(tf1_checkpoint(kind, **options))
    serve = feeds_for(kind)
    for step in range(2):
        ranks.step([serve(2 * step), serve(2 * step + 1)])
    state = ranks.states()[0]

    files = ranks.processes[0].call("apply", write_state, str(tmp_path), "model.ckpt-5")

    assert [path.name for path in files] == [
        "model.ckpt-5.data-00000-of-00001",
        "model.ckpt-5.index",
        "model.ckpt-5.meta",
    ]
    found = plain_tf1(tmp_path / "model.ckpt-5", dict(serve(50)), tmp_path)
    assert found["step"] == start.step + 3
    for name, values in found["before"].items():
        ours = state.arrays[name.removesuffix(":0")]
        assert np.array_equal(np.asarray(values, ours.dtype), ours.ravel()), name
    again = ranks.processes[1].call("load_checkpoint", str(tmp_path / "model.ckpt-5"))
    assert_identical(again, state)


def test_bundle_meta_is_the_source_graph(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    ranks = new_ranks(1)
    ranks.start(prefix)
    ranks.processes[0].call("apply", write_state, str(tmp_path), "model.ckpt-3")
    graph = worker_graph(prefix)
    written = (tmp_path / "model.ckpt-3.meta").read_bytes()
    assert written == graph.original_meta
    assert not graph.repairs
    source = MetaGraphDef.FromString(Path(f"{prefix}.meta").read_bytes())
    assert MetaGraphDef.FromString(written) == source  # maps have no order in bytes


def test_bundle_into_a_directory_that_is_not_there_is_an_output_error(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    ranks = new_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    (tmp_path / "file").write_text("")
    outcome = outcome_of(
        lambda: ranks.processes[0].call(
            "apply", write_state, str(tmp_path / "file"), "model.ckpt-3"
        )
    )
    assert isinstance(outcome, OutputError)
    assert "model.ckpt-3" in str(outcome)


def test_v1_format_checkpoint_is_read_as_the_v2_one(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint("embedding", optimizer="adagrad", partitions=3)
    ranks = new_ranks(1)
    start = ranks.start(prefix)
    path = ranks.processes[0].call("apply", save_as_v1, str(prefix), str(tmp_path / "old.ckpt-3"))
    assert_identical(ranks.processes[0].call("load_checkpoint", path), start)


def save_as_v1(trainer: Any, source: str, target: str) -> str:
    """The same checkpoint in the format of TensorFlow before 1.0."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.import_meta_graph(f"{source}.meta")
        saver.restore(session, source)
        old = tf1.train.Saver(tf1.global_variables(), write_version=tf1.train.SaverDef.V1)
        return str(old.save(session, target, write_meta_graph=False))


def _without(trainer: Any, prefix: str, target: str, *dropped: str) -> str:
    """A checkpoint that lacks these keys."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(prefix)
    names = [name for name in reader.get_variable_to_shape_map() if name not in dropped]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = [reader.get_tensor(name) for name in names]
        session.run(
            tf.raw_ops.SaveV2(
                prefix=target,
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=values,
            )
        )
    return target


def test_checkpoint_that_lacks_variables_is_refused_naming_all_of_them(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    ranks = new_ranks(1)
    ranks.start(prefix)
    gone = ("out/kernel", "hidden/kernel")
    short = ranks.processes[0].call(
        "apply", _without, str(prefix), str(tmp_path / "short-3"), *gone
    )

    outcome = outcome_of(lambda: ranks.processes[0].call("load_checkpoint", short))

    assert isinstance(outcome, GraphMismatch)
    assert sorted(outcome.details["missing"]) == sorted(gone)
    assert all(name in str(outcome) for name in gone)
    allowed: State = ranks.processes[0].call("load_checkpoint", short, init_missing=True)
    assert allowed.arrays["hidden/kernel"].shape == (6, 16)
    ranks.assign(allowed)
    assert ranks.step([feeds_for("mlp")(0)])[0].step == 4


def test_counter_that_a_checkpoint_lacks_goes_on_at_the_number_in_its_name(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    """It began at 0 while the run's end was reckoned from that number, so that a run of four steps
    trained as many more as had been trained before.
    """
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    ranks = new_ranks(1)
    ranks.start(prefix)
    short = ranks.processes[0].call(
        "apply", _without, str(prefix), str(tmp_path / "short-50"), "global_step"
    )
    outcome = outcome_of(lambda: ranks.processes[0].call("load_checkpoint", short))
    assert isinstance(outcome, GraphMismatch)
    assert outcome.details["missing"] == ["global_step"]
    state: State = ranks.processes[0].call("load_checkpoint", short, init_missing=True)
    assert (state.step, int(state.arrays["global_step"])) == (50, 50)
    ranks.assign(state)
    assert ranks.step([feeds_for("mlp")(0)])[0].step == 51


def test_checkpoint_that_lacks_optimizer_slots_starts_them_anew_by_itself(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    ranks = new_ranks(1)
    ranks.start(prefix)
    short = ranks.processes[0].call(
        "apply", _without, str(prefix), str(tmp_path / "short-3"), "out/bias/Adam", "beta1_power"
    )
    state: State = ranks.processes[0].call("load_checkpoint", short)
    assert not state.arrays["out/bias/Adam"].any()
    assert state.arrays["beta1_power"] == pytest.approx(0.9)
    ranks.assign(state)
    assert ranks.step([feeds_for("mlp")(0)])[0].step == 4


def test_checkpoint_of_another_graph_is_refused_naming_shapes(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    ranks = new_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="sgd"))
    other = ranks.processes[0].call(
        "apply", _narrow, str(tf1_checkpoint("mlp", optimizer="sgd")), str(tmp_path / "narrow-3")
    )
    outcome = outcome_of(lambda: ranks.processes[0].call("load_checkpoint", other))
    assert isinstance(outcome, GraphMismatch)
    assert "[6, 16]" in str(outcome)
    assert "[2, 16]" in str(outcome)


def _narrow(trainer: Any, prefix: str, target: str) -> str:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(prefix)
    names = list(reader.get_variable_to_shape_map())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        values = [
            reader.get_tensor(name)[:2] if name == "hidden/kernel" else reader.get_tensor(name)
            for name in names
        ]
        session.run(
            tf.raw_ops.SaveV2(
                prefix=target,
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=values,
            )
        )
    return target


def test_checkpoint_with_a_flipped_byte_is_corrupt(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    ranks = new_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    prefix = tf1_checkpoint.copy(tmp_path, "mlp", optimizer="adam")
    data = tmp_path / f"{prefix.name}.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    outcome = outcome_of(lambda: ranks.processes[0].call("load_checkpoint", str(prefix)))
    assert isinstance(outcome, CorruptCheckpoint)
    assert prefix.name in str(outcome)


@pytest.fixture
def ema_graph(tf1_checkpoint: CheckpointLibrary) -> WorkerGraph:
    return worker_graph(tf1_checkpoint("ema"))


def test_keys_of_a_saver_that_stores_averages_under_the_variables_names_are_kept_apart(
    ema_graph: WorkerGraph,
) -> None:
    from dataclasses import replace

    from orchestrator.training.state.bundle_keys import checkpoint_keys

    average, plain = "out/kernel/ExponentialMovingAverage", "out/kernel"
    variables = tuple(
        replace(
            variable,
            key="out/kernel"
            if variable.name == average
            else None
            if variable.name == plain
            else variable.key,
        )
        for variable in ema_graph.variables
    )
    keys = checkpoint_keys(replace(ema_graph, variables=variables))
    assert keys[average] == "out/kernel"
    assert keys[plain] == "tfresume/variable/out/kernel"
    assert len(set(keys.values())) == len(keys)
