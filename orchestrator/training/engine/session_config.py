"""Which devices and threads does a session get?

Rule: one ConfigProto for every session of a worker, made from the options alone. Memory on a GPU
grows on demand; without ``gpu`` no GPU is touched, so that a standby holds none.

Bit-identical runs need, all of them (measured with TensorFlow 2.21 on a perceptron, a convolution
with batch norm, embeddings and a loop; ``tests/training/test_determinism.py`` repeats it):

- The same number of intra-op threads on every machine, here one: sums of convolutions are split by
  it. With the number fixed, runs repeated bit by bit, and the number of inter-op threads made no
  difference; one of them also fixes the order in which writers of one variable run.
- The same kernels: ``TF_ENABLE_ONEDNN_OPTS`` equal everywhere (0 and 1 differ in all four graphs),
  and CPUs of one instruction set.
- Deterministic GPU kernels (``enable_op_determinism``). On CPU every group has them, whether asked
  for or not: from 1,024 rows on ``ScatterAdd`` adds duplicates in parallel in any order, and ranks
  with equal inputs would drift apart in the last bits.
- Nothing of the exchange: it adds in one fixed order of the slots, whoever computed them.
"""

from __future__ import annotations

from typing import Any

from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.tensorflow import tf, v1


def session_config(options: TrainingOptions) -> Any:
    """The ConfigProto of a worker's session."""
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
    return config


def reading_config(options: TrainingOptions) -> Any:
    """The ConfigProto of a session that only reads files, beside the one that trains.

    With the threads of the latter: a process's first session settles how many there are within an
    operation for all later ones, so a worker that read the checkpoint would add in another order
    than one that was given its state.
    """
    config = session_config(options)
    config.device_count["GPU"] = 0
    return config


def prepare_process(options: TrainingOptions) -> None:
    """Settings that TensorFlow keeps per process; before the first session."""
    in_a_group = options.batches_per_step > 1 and not options.gpu
    if options.deterministic or in_a_group:
        tf.config.experimental.enable_op_determinism()
