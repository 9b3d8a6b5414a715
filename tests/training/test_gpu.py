"""Does training use the GPU that the worker was given? One GPU is enough; ``make gpu-check`` runs
these.

Tolerance against the CPU: float32 without TensorFloat-32 differs by the order of sums, 1e-4 of a
variable's largest value after ten steps of Adam.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.errors import PeerLost, PlacementError
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import assert_close, assert_identical
from tests.training.ranks import RankProcess, Ranks, outcome_of

pytestmark = [pytest.mark.tf, pytest.mark.gpu]

STEPS = 10
NewGpuRanks = Callable[[int], Ranks]


@pytest.fixture
def gpu_ranks() -> Iterator[NewGpuRanks]:
    """Rank processes that see the GPU; ended after the test, so that its memory is free again."""
    if (
        shutil.which("nvidia-smi") is None
        or subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine has no GPU that nvidia-smi can see")
    taken: list[RankProcess] = []

    def take(count: int) -> Ranks:
        taken.extend(RankProcess(gpu=True) for _ in range(count))
        return Ranks(taken[-count:])

    yield take
    for process in taken:
        process.close()


def options(**values: Any) -> TrainingOptions:
    return TrainingOptions(gpu=True, **values)


def devices_used(trainer: Any, batch: Any) -> dict[str, str]:
    """Operation name to device of one step, as TensorFlow's own trace tells it."""
    import tensorflow as tf

    metadata = tf.compat.v1.RunMetadata()
    trainer._group.session.session.run(
        trainer._imported.get_operation_by_name(trainer.graph.targets[0].op),
        trainer._runner.checked(batch),
        options=tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE),
        run_metadata=metadata,
    )
    return {
        node.node_name: device.device
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
    }


def gpu_memory(trainer: Any) -> dict[str, int]:
    """Bytes in use and at their peak on the first GPU."""
    import tensorflow as tf

    return dict(tf.config.experimental.get_memory_info("GPU:0"))


def trained(ranks: Ranks, kind: str, steps: int = STEPS) -> State:
    serve = feeds_for(kind)
    for step in range(steps):
        ranks.step([serve(step * ranks.slots + slot) for slot in range(ranks.slots)])
    states = ranks.states()
    for state in states[1:]:
        assert_identical(state, states[0])
    return states[0]


def test_step_of_a_graph_saved_on_other_devices_runs_on_the_gpu(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks
) -> None:
    ranks = gpu_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam", devices=True), options=options())
    used = ranks.processes[0].call("apply", devices_used, feeds_for("mlp")(0))
    products = [device for name, device in used.items() if "MatMul" in name]
    assert products
    assert all("GPU:0" in device for device in products)


def test_memory_of_the_gpu_grows_on_demand(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks
) -> None:
    ranks = gpu_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"), options=options())
    ranks.step([feeds_for("mlp")(0)])
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    )
    used, total = (float(number) for number in listed.stdout.splitlines()[0].split(","))
    assert ranks.processes[0].call("apply", gpu_memory)["peak"] < 256 * 2**20
    assert used < total / 2  # without growth TensorFlow takes nearly all of it at once


@pytest.mark.parametrize("kind", ["mlp", "conv_bn", "embedding"])
def test_training_on_the_gpu_gives_what_the_cpu_gives(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks, kind: str
) -> None:
    prefix = tf1_checkpoint(kind)
    on_gpu, on_cpu = gpu_ranks(1), gpu_ranks(1)
    on_gpu.start(prefix, options=options())
    on_cpu.start(prefix, options=TrainingOptions())
    assert_close(trained(on_gpu, kind), trained(on_cpu, kind), relative=1e-4)


def test_two_workers_sharing_one_gpu_by_fraction_stay_identical(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks
) -> None:
    ranks = gpu_ranks(2)
    ranks.start(
        tf1_checkpoint("embedding", optimizer="adam"),
        options=options(batches_per_step=2, gpu_memory_fraction=0.4),
    )
    trained(ranks, "embedding")


@pytest.mark.parametrize(
    "kind", ["mlp", "conv_bn", "embedding", "dropout", "wide"]
)  # the last: 16 MB come from the GPU at each step
def test_two_workers_sharing_one_gpu_end_with_the_bytes_of_one_worker(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks, kind: str
) -> None:
    prefix = tf1_checkpoint(kind)
    two, one = gpu_ranks(2), gpu_ranks(1)
    shared = options(batches_per_step=2, gpu_memory_fraction=0.25, deterministic=True)
    two.start(prefix, options=shared)
    one.start(prefix, options=shared)
    assert_identical(trained(two, kind), trained(one, kind))


def test_survivor_of_a_kill_on_a_shared_gpu_trains_on_in_its_session(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks
) -> None:
    ranks = gpu_ranks(2)
    ranks.start(
        tf1_checkpoint("mlp", optimizer="adam"),
        options=options(batches_per_step=2, gpu_memory_fraction=0.4),
    )
    before = trained(ranks, "mlp", steps=2)
    serve = feeds_for("mlp")
    ranks.processes[0].send("step", [serve(50)])
    ranks.processes[1].kill()
    assert isinstance(outcome_of(ranks.processes[0].receive), PeerLost)
    ranks.form(ranks.processes[:1])
    assert ranks.step([serve(50), serve(51)])[0].step == before.step + 1


def test_group_of_one_of_an_nccl_worker_trains_without_nccl_and_equals_a_worker_alone(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    nccl, alone = gpu_ranks(1), gpu_ranks(1)
    nccl.start(
        prefix,
        options=options(exchange="nccl", deterministic=True, batches_per_step=2, max_world_size=2),
    )
    nccl.slots = 1  # with NCCL a step has as many batches as there are members
    alone.start(prefix, options=options(deterministic=True))
    assert_identical(trained(nccl, "mlp"), trained(alone, "mlp"))


def run_nccl_alone(trainer: Any) -> list[float]:
    """One all-reduce through NCCL in a server whose group has one member."""
    import tensorflow as tf

    from orchestrator.training.engine.session_config import session_config

    membership = trainer._group._membership
    address = membership.reserve_address()
    membership.release_address()
    config = session_config(trainer.options)
    config.experimental.collective_group_leader = "/job:worker/replica:0/task:0"
    config.experimental.collective_nccl = True
    server = tf.distribute.Server(
        tf.train.ClusterSpec({"worker": [address]}), "worker", 0, config=config
    )
    with tf.compat.v1.Session(server.target, graph=trainer._imported, config=config) as session:
        return [
            float(value)
            for value in session.run(
                f"{membership._exchange.probe}:0", membership._exchange.feeds(1, 77)
            )
        ]


def test_nccl_collective_in_a_server_of_one_runs_on_the_gpu(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks
) -> None:
    ranks = gpu_ranks(1)
    ranks.start(
        tf1_checkpoint("mlp", optimizer="adam"),
        options=options(exchange="nccl", batches_per_step=2, max_world_size=2),
    )
    assert set(ranks.processes[0].call("apply", run_nccl_alone)) == {0.0}


def test_state_from_the_gpu_is_saved_and_loads_on_the_cpu(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks, tmp_path: Any
) -> None:
    from tests.training.test_bundle_writer import write_state

    ranks = gpu_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"), options=options())
    state = trained(ranks, "mlp")
    ranks.processes[0].call("apply", write_state, str(tmp_path), "model.ckpt-13")
    on_cpu = gpu_ranks(1)
    on_cpu.load(*_graph_on_cpu(tf1_checkpoint))
    assert_identical(
        on_cpu.processes[0].call("load_checkpoint", str(tmp_path / "model.ckpt-13")), state
    )


def _graph_on_cpu(tf1_checkpoint: CheckpointLibrary) -> tuple[Any, TrainingOptions]:
    from tests.training.ranks import worker_graph

    return worker_graph(tf1_checkpoint("mlp", optimizer="adam")), TrainingOptions()


def _take(trainer: Any, *identifiers: str) -> None:
    from orchestrator.training.engine.gpu import take_devices

    take_devices(identifiers)


def test_standby_takes_devices_before_its_first_session_and_never_changes_them_later(
    tf1_checkpoint: CheckpointLibrary, gpu_ranks: NewGpuRanks
) -> None:
    ranks = gpu_ranks(1)
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    from tests.training.ranks import worker_graph

    ranks.load(worker_graph(prefix), options())
    worker = ranks.processes[0]
    worker.call("apply", _take, "0")
    state = worker.call("load_checkpoint", str(prefix))
    ranks.form()
    ranks.assign(state)
    ranks.step([feeds_for("mlp")(0)])
    assert isinstance(outcome_of(lambda: worker.call("apply", _take, "1")), PlacementError)
