"""How do the local gradients become the group's mean or sum, inside TensorFlow?

Rule: between every seam's input and its Identity stand collectives while the group has more than
one member; with one member the seam's own input is wired back, so that one imported graph serves
every world size. Rewiring happens between sessions only.

Three facts shape the code, all measured:

- A collective's ``instance_key`` is bound to the first shape that it sees. Sparse rows differ by
  rank and by step, so the ranks first gather their row counts, pad to the next power of two, and
  the key holds the exponent.
- A rank notices a lost peer by a pending receive. Of a tensor of up to 64 bytes the ring's first
  rank only sends, and waits for ever for a peer that died: every buffer is padded until each rank
  has a chunk to receive.
- Each collective costs round trips, a large copy costs time as well: small dense tensors of a
  target share one buffer.

Between the collectives of a level and all that comes after them stands a vote, see ``nccl.group``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orchestrator.graph.repetition.gradient_scale import GradientScale, is_summed
from orchestrator.graph.worker_graph import DenseSeam, SparseSeam, TrainTarget
from orchestrator.training.engine.tensorflow import collective_ops, tf, v1
from orchestrator.training.host.depths import seam_depths
from orchestrator.training.nccl.packing import packs_of, seams_by_target

HINT = "nccl"
"""TensorFlow's name for who moves the numbers. Its other one, ``ring`` through gRPC, is what tests
without a GPU use.
"""
CHUNK_BYTES = 64
"""The ring cuts a tensor at multiples of this."""
KEYS_PER_SPARSE_SEAM = 128
"""One for the row counts; from the next on one for each power of two that values are padded to, and
from the 64th on the same for indices: int32 has 32 of them.
"""
FIRST_SPARSE_KEY = 1_000_000
"""Beyond all keys of dense buffers, which are counted from ``GROUP_CHECK_KEY`` on: no graph has a
million seams.
"""
GROUP_CHECK_KEY = 1
"""The first of the instance keys; each names one collective of the graph, on all ranks alike."""


@dataclass(frozen=True)
class _Wire:
    """A seam's Identity, what feeds it in a group of one, and what feeds it in a larger group."""

    identity: Any
    local: Any
    shared: Any


class Exchange:
    """The collectives of one imported graph.

    Args:
        graph: the imported TensorFlow graph; nodes are added to it, none is removed.
        targets: the train operations with their seams.
        max_world_size: the largest group; decides the padding of small tensors.
        vote: called in each step when a level's collectives are done; it raises where a peer is
            gone.
        scale: which seams are added up.
    """

    def __init__(
        self,
        graph: Any,
        targets: Sequence[TrainTarget],
        max_world_size: int,
        vote: Callable[[], np.ndarray],
        scale: GradientScale = "auto",
    ) -> None:
        self._graph = graph
        self._hint = HINT
        self._vote = vote
        self._scale = scale
        self._max_world_size = max_world_size
        self._wires: list[_Wire] = []
        self._previous: Any = None
        if max_world_size > 1 and any(target.dense or target.sparse for target in targets):
            device = "/device:GPU:0" if self._hint == "nccl" else "/device:CPU:0"
            with graph.as_default(), tf.device(device), v1.name_scope("tfresume/exchange/"):
                self._build(targets)

    @property
    def probe(self) -> str:
        """Name of an operation that joins the group and exchanges nothing else; it ends when every
        rank runs it. Empty without seams.
        """
        return str(self._probe.op.name) if self._wires else ""

    def connect(self, world_size: int) -> None:
        """Wire the seams for a group of ``world_size``; no session may be running a step of this
        graph.
        """
        for wire in self._wires:
            wire.identity._update_input(0, wire.local if world_size == 1 else wire.shared)

    def feeds(self, world_size: int, generation: int) -> dict[str, np.ndarray]:
        """What every run of a connected graph must be fed, by tensor name."""
        if not self._wires:
            return {}
        return {
            self._size.name: np.array(world_size, np.int32),
            self._key.name: np.array(generation, np.int32),
        }

    def _build(self, targets: Sequence[TrainTarget]) -> None:
        self._size = v1.placeholder_with_default(np.int32(1), [], name="world_size")
        self._key = v1.placeholder_with_default(np.int32(0), [], name="generation")
        self._probe = self._reduce(
            tf.zeros([self._padding(tf.float32)], tf.float32), GROUP_CHECK_KEY
        )
        # The probe is run by itself, so that nothing has to wait for it
        self._previous = None
        dense, sparse = seams_by_target(targets)
        levels = seam_depths(self._graph, targets)
        # Keys are counted in an order that follows from names alone, so that they mean the same on
        # all ranks
        packs = sorted(
            packs_of(dense, levels, scale=self._scale),
            key=lambda pack: (levels[pack[0].node], pack[0].node),
        )
        for number, pack in enumerate(packs):
            self._connect_dense(pack, instance_key=GROUP_CHECK_KEY + 1 + number)
        for number, seam in enumerate(
            sorted(sparse, key=lambda seam: (levels[seam.values_node], seam.values_node))
        ):
            self._connect_sparse(seam, FIRST_SPARSE_KEY + number * KEYS_PER_SPARSE_SEAM)
        self._wires = [
            wire for level in sorted(set(levels.values())) for wire in self._voted(level, levels)
        ]

    def _voted(self, level: int, levels: dict[str, int]) -> list[_Wire]:
        wires = [wire for wire in self._wires if levels[wire.identity.name] == level]
        # On the host, since it's a Python function
        with tf.control_dependencies([wire.shared for wire in wires]), tf.device("/device:CPU:0"):
            vote = tf.numpy_function(self._vote, [], tf.int32, name="vote")
        with tf.control_dependencies([vote]):
            return [replace(wire, shared=tf.identity(wire.shared)) for wire in wires]

    def _connect_dense(self, seams: Sequence[DenseSeam], instance_key: int) -> None:
        identities = [self._graph.get_operation_by_name(seam.node) for seam in seams]
        local = [identity.inputs[0] for identity in identities]
        reduced = self._reduced(local, instance_key, mean=not is_summed(seams[0], self._scale))
        self._wires.extend(map(_Wire, identities, local, reduced))

    def _reduced(self, tensors: list[Any], instance_key: int, *, mean: bool) -> list[Any]:
        if (
            len(tensors) == 1
            and _static_bytes(tensors[0]) >= self._padding(tensors[0].dtype) * tensors[0].dtype.size
        ):
            return [self._reduce(tensors[0], instance_key, mean=mean)]
        # One that is alone and small goes through a buffer too, for the padding's sake
        dtype = tensors[0].dtype.base_dtype
        flat = [tf.reshape(tensor, [-1]) for tensor in tensors]
        sizes = [tf.size(part) for part in flat]
        buffer = tf.concat([*flat, tf.zeros([self._padding(dtype)], dtype)], 0)
        parts = tf.split(
            self._reduce(buffer, instance_key, mean=mean),
            [*sizes, self._padding(dtype)],
            num=len(flat) + 1,
        )
        return [
            tf.reshape(part, tf.shape(tensor))
            for part, tensor in zip(parts[:-1], tensors, strict=True)
        ]

    def _padding(self, dtype: Any) -> int:
        return self._max_world_size * CHUNK_BYTES // int(dtype.size)

    def _reduce(self, tensor: Any, instance_key: int, *, mean: bool = False) -> Any:
        with tf.control_dependencies(self._order()):
            reduced = collective_ops.all_reduce_v2(
                tensor,
                self._size,
                self._key,
                np.int32(instance_key),
                merge_op="Add",
                final_op="Div" if mean else "Id",
                communication_hint=self._hint,
            )
        self._previous = reduced
        return reduced

    def _gather(self, tensor: Any, instance_key: Any) -> Any:
        with tf.control_dependencies(self._order()):
            gathered = collective_ops.all_gather_v2(
                tensor, self._size, self._key, instance_key, communication_hint=self._hint
            )
        self._previous = gathered
        return gathered

    def _order(self) -> list[Any]:
        """NCCL wants its kernels in the same order on every rank; the ring doesn't, and runs them
        side by side.
        """
        return [self._previous] if self._hint == "nccl" and self._previous is not None else []

    def _connect_sparse(self, seam: SparseSeam, first_key: int) -> None:
        values_identity = self._graph.get_operation_by_name(seam.values_node)
        indices_identity = self._graph.get_operation_by_name(seam.indices_node)
        values, indices = values_identity.inputs[0], indices_identity.inputs[0]
        rows = tf.shape(indices, out_type=tf.int32)[0]
        counts = self._gather(tf.reshape(rows, [1]), np.int32(first_key))
        exponent = _exponent(tf.reduce_max(counts))
        padded_rows = tf.bitwise.left_shift(1, exponent)
        occupied = tf.reshape(tf.range(padded_rows)[None, :] < counts[:, None], [-1])

        def everyones(tensor: Any, key: int) -> Any:
            return tf.boolean_mask(
                self._gather(_pad_rows(tensor, padded_rows - rows), key + exponent), occupied
            )

        rows_of_all = everyones(values, first_key + 1)
        if not is_summed(seam, self._scale):
            rows_of_all /= tf.cast(self._size, values.dtype)
        self._wires.append(_Wire(values_identity, values, rows_of_all))
        self._wires.append(_Wire(indices_identity, indices, everyones(indices, first_key + 64)))


def _exponent(rows: Any) -> Any:
    """The least e with ``2**e >= rows``, int32; 0 where there are no rows."""
    return tf.reduce_sum(
        tf.cast(rows - 1 >= tf.constant([1 << bit for bit in range(31)], tf.int32), tf.int32)
    )


def _pad_rows(tensor: Any, missing: Any) -> Any:
    shape = tf.concat([tf.reshape(missing, [1]), tf.shape(tensor)[1:]], 0)
    return tf.reshape(
        tf.concat([tensor, tf.zeros(shape, tensor.dtype)], 0),
        tf.concat([[-1], tf.shape(tensor)[1:]], 0),
    )


def _static_bytes(tensor: Any) -> int:
    """Bytes of a tensor of known shape, 0 where the shape isn't known before the run."""
    elements = tensor.shape.num_elements()
    return 0 if elements is None else int(elements) * int(tensor.dtype.size)
