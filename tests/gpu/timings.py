"""How long do saves, copies and exchanges take in a rank, and how much memory do re-forms take?"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.graphs.feeds import feeds_for
from tests.training.ranks import Ranks

WARM = 3


def _timed(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def stalls(trainer: Any, directory: str, rounds: int) -> list[float]:
    """Seconds that each save takes from training: the copy of the state, and what steps beside the
    writing lose.
    """
    from orchestrator.training.state.bundle_writer import write_bundle

    batch = feeds_for("wide")(0)
    usual = median([_timed(lambda: trainer.step([batch])) for _ in range(10)])
    found = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        state = trainer.state_for_save()
        lost = time.perf_counter() - began
        writing = threading.Thread(
            target=write_bundle,
            args=(state, trainer.graph, Path(directory), f"model.ckpt-{number}"),
        )
        writing.start()
        while writing.is_alive():
            lost += max(_timed(lambda: trainer.step([batch])) - usual, 0.0)
        writing.join()
        found.append(lost)
    return found[1:]  # the first makes the buffers


def steps_s(ranks: Ranks, rounds: int) -> list[float]:
    """Seconds of each of some steps of the whole group."""
    serve = feeds_for("wide")
    batches = [serve(slot) for slot in range(ranks.slots)]
    return [_timed(lambda: ranks.step(batches)) for _ in range(rounds + WARM)][WARM:]


def _config(gpu: bool) -> Any:
    from orchestrator.training.engine.options import TrainingOptions
    from orchestrator.training.engine.session_config import session_config

    return session_config(TrainingOptions(gpu=gpu))


def fetch_s(megabytes: int, gpu: bool) -> list[float]:
    """Seconds of each fetch of a variable of that size."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph, tf.device("/GPU:0" if gpu else "/CPU:0"):
        variable = tf.Variable(tf.zeros([megabytes * 2**18]), use_resource=True)
        value = variable + 1.0
    with tf.Session(graph=graph, config=_config(gpu)) as session:
        session.run(variable.initializer)
        return [_timed(lambda: session.run(value)) for _ in range(5 + WARM)][WARM:]


def collective_session(megabytes: int, gpu: bool) -> tuple[Any, Any]:
    """A session on a server of one, and the operation that reduces so many bytes over a group of
    one.
    """
    import tensorflow.compat.v1 as tf
    from tensorflow.python.ops import collective_ops

    from tests.benchmarks.commands import free_ports

    config = _config(gpu)
    config.experimental.collective_group_leader = "/job:worker/replica:0/task:0"
    config.experimental.collective_nccl = gpu
    cluster = tf.train.ClusterSpec({"worker": [f"127.0.0.1:{free_ports(1)[0]}"]})
    server = tf.train.Server(cluster, "worker", 0, config=config)
    where = "/job:worker/replica:0/task:0/device:" + ("GPU:0" if gpu else "CPU:0")
    with tf.Graph().as_default() as graph, tf.device(where):
        value = tf.fill([megabytes * 2**18], 1.0)
        reduced = collective_ops.all_reduce_v2(
            value,
            group_size=1,
            group_key=1,
            instance_key=1,
            communication_hint="nccl" if gpu else "ring",
        )
        wanted = tf.reduce_sum(reduced).op
    return tf.Session(server.target, graph=graph, config=config), wanted


def collective_s(megabytes: int, gpu: bool) -> list[float]:
    """Seconds of each all-reduce of that size in a group of one."""
    session, wanted = collective_session(megabytes, gpu)
    return [_timed(lambda: session.run(wanted)) for _ in range(5 + WARM)][WARM:]


def memory(gpu: bool) -> dict[str, int]:
    """Bytes of this process on the host, and on the card in use."""
    import psutil
    import tensorflow as tf

    found = {"host": int(psutil.Process().memory_info().rss)}
    return found | (
        {"card": int(tf.config.experimental.get_memory_info("GPU:0")["current"])} if gpu else {}
    )


def memory_over_reforms(ranks: Ranks, reforms: int, gpu: bool) -> dict[str, Any]:
    """Growth of a rank's memory in MiB from the fifth re-form to the last, with a step after each."""
    serve = feeds_for("mlp")
    seen: list[dict[str, int]] = []
    for _ in range(reforms):
        ranks.form()
        ranks.step([serve(0), serve(1)])
        seen.append(ranks.processes[0].call("function", memory, gpu))
    first, last = seen[4], seen[-1]
    return {"re-forms": reforms} | {
        f"MiB more on the {where}": (last[where] - first[where]) / 2**20 for where in last
    }
