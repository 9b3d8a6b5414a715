"""How does a group of two train a rewritten graph? Both ranks in one TensorFlow graph, each seam
joined with its twin.

Rule: what ``training/exchange`` does between processes, done with plain operations: dense seams get
the mean of both, sparse seams both ranks' rows with halved values; gradients of sums are added up.
A switch makes the exchange fail, after the gradients and before anything that is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from orchestrator.graph.repetition.gradient_scale import is_summed
from orchestrator.graph.worker_graph import WorkerGraph
from tests.graph.bare import session_config

RANKS = (0, 1)


class Pair:
    """Two ranks of one graph in one session."""

    def __init__(self, graph: WorkerGraph, prefix: str, *, exchange: bool = True) -> None:
        import tensorflow

        self._tf = tensorflow.compat.v1
        self._described = graph
        self.graph = self._tf.Graph()
        meta = self._tf.MetaGraphDef.FromString(graph.meta)
        with self.graph.as_default():
            for rank in RANKS:
                self._tf.import_graph_def(_apart(meta.graph_def, rank), name=f"r{rank}")
            self._factor = self._tf.placeholder_with_default(np.float32(1.0), [], name="factor")
            if exchange:
                self._join()
            self._reads = {rank: self._read(rank) for rank in RANKS}
        self.session = self._tf.Session(graph=self.graph, config=session_config(self._tf))
        for rank in RANKS:
            self._restore(rank, meta.saver_def, prefix)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.session.close()

    def _ops(self, name: str) -> list[Any]:
        return [self.graph.get_operation_by_name(f"r{rank}/{name}") for rank in RANKS]

    def _join(self) -> None:
        tf = self._tf
        joined = set()
        for target in self._described.targets:
            for dense in target.dense:
                if dense.node not in joined:
                    joined.add(dense.node)
                    ops = self._ops(dense.node)
                    share = 1 if is_summed(dense, "auto") else len(ops)
                    reduced = self._checked(tf.add_n([op.inputs[0] for op in ops]) / share)
                    for op in ops:
                        op._update_input(0, reduced)
            for sparse in target.sparse:
                values, indices = self._ops(sparse.values_node), self._ops(sparse.indices_node)
                share = 1 if is_summed(sparse, "auto") else len(values)
                rows = self._checked(tf.concat([op.inputs[0] for op in values], 0) / share)
                places = tf.concat([op.inputs[0] for op in indices], 0)
                for value, index in zip(values, indices, strict=True):
                    value._update_input(0, rows)
                    index._update_input(0, places)

    def _checked(self, value: Any) -> Any:
        if value.dtype.is_complex:
            parts = (self._checked(self._tf.real(value)), self._checked(self._tf.imag(value)))
            return self._tf.complex(*parts)
        return self._tf.check_numerics(
            value * self._tf.cast(self._factor, value.dtype), "the exchange failed"
        )

    def _read(self, rank: int) -> dict[str, Any]:
        import tensorflow

        found = {}
        for variable in self._described.variables:
            output = self.graph.get_operation_by_name(f"r{rank}/{variable.name}").outputs[0]
            read = (
                tensorflow.raw_ops.ReadVariableOp(resource=output, dtype=variable.dtype)
                if variable.kind == "resource"
                else output
            )
            found[variable.name] = read
        return found

    def _restore(self, rank: int, saver: Any, prefix: str) -> None:
        initializers = [
            variable.initializer for variable in self._described.variables if variable.local
        ]
        self.session.run(
            [self.graph.get_operation_by_name(f"r{rank}/{name}") for name in initializers if name]
        )
        self.session.run(
            f"r{rank}/{saver.restore_op_name}", {f"r{rank}/{saver.filename_tensor_name}": prefix}
        )

    def step(
        self,
        batches: Mapping[int, Mapping[str, np.ndarray]],
        number: int = 0,
        *,
        fail: bool = False,
    ) -> None:
        """Run every target once on both ranks, each with its own batch.

        Args:
            batches: rank to what it's fed, by the ports' names.
            fail: let the exchange fail.
        """
        ports = {port.name: port for port in self._described.inputs}
        for target in range(len(self._described.targets)):
            needed = {name: port.tensor for name, port in ports.items() if target in port.targets}
            feeds = {
                f"r{rank}/{needed[name]}": value
                for rank, given in batches.items()
                for name, value in given.items()
                if name in needed
            }
            if fail:
                feeds["factor:0"] = np.float32(np.nan)  # type: ignore[assignment]
            for rank in RANKS:
                if self._described.rng_feed:
                    feeds[f"r{rank}/{self._described.rng_feed}"] = np.array(
                        [rank + 1, number], np.int64
                    )
                if self._described.group_rng_feed:
                    feeds[f"r{rank}/{self._described.group_rng_feed}"] = np.array(
                        [9, number], np.int64
                    )
            self.session.run(self._ops(self._described.targets[target].op), feeds)

    def variables(self, rank: int) -> dict[str, np.ndarray]:
        """A rank's variables, by node name."""
        values: dict[str, np.ndarray] = self.session.run(self._reads[rank])
        return values


def _apart(graph: Any, rank: int) -> Any:
    """A copy whose resources and loops have names of their own: two ranks in one graph would share
    them.
    """
    copy = type(graph)()
    copy.CopyFrom(graph)
    for node in copy.node:
        if node.op == "VarHandleOp":
            node.attr["shared_name"].s = f"r{rank}/{node.name}".encode()
        if "frame_name" in node.attr:
            node.attr["frame_name"].s = f"r{rank}/".encode() + node.attr["frame_name"].s
    return copy
