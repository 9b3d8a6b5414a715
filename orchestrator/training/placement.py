"""Which devices and threads does a session get?

Rule: one ConfigProto for every session of a worker, made from the options alone. Memory on a GPU grows on demand; without ``gpu`` no
GPU is touched, so that a standby holds none.

Deterministic runs need, all of them (measured, see ``tests/training/test_determinism.py``): one intra-op thread (sums are split by
the number of threads), one inter-op thread (operations on the same variable run in graph order), deterministic GPU kernels, and the
same kernels on every machine (``TF_ENABLE_ONEDNN_OPTS`` equal everywhere, and CPUs of one instruction set).
"""

from __future__ import annotations

from typing import Any

from orchestrator.training.engine import tf, v1
from orchestrator.training.options import GroupSpec, TrainingOptions

JOB = "worker"


def session_config(options: TrainingOptions, group: GroupSpec | None = None) -> Any:
    """The ConfigProto of a worker's session; with ``group`` of its server as well."""
    config = v1.ConfigProto(allow_soft_placement=True)
    one = 1 if options.deterministic else 0
    config.intra_op_parallelism_threads = one or options.intra_threads or 0
    config.inter_op_parallelism_threads = one or options.inter_threads or 0
    if options.gpu:
        config.gpu_options.allow_growth = True
        if options.gpu_memory_fraction is not None:
            config.gpu_options.per_process_gpu_memory_fraction = options.gpu_memory_fraction
    else:
        config.device_count["GPU"] = 0
    if group is not None and group.world_size > 1:
        config.isolate_session_state = True  # closing the session frees its variables
        config.device_filters.append(f"/job:{JOB}/task:{group.rank}")  # nothing but the collectives crosses processes
        config.experimental.collective_group_leader = f"/job:{JOB}/replica:0/task:0"
        config.experimental.collective_nccl = options.exchange == "nccl"
    return config


def prepare_process(options: TrainingOptions) -> None:
    """Settings that TensorFlow keeps per process; before the first session."""
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
