"""Which value does a variable of a graph have, as a constant of a graph?

Rule: its checkpoint's, under the key that its saver says; of a partitioned variable's part, the
part. Read when it's asked for, since all at once may be larger than memory.
"""

from __future__ import annotations

from tensorboard.compat.proto.tensor_pb2 import TensorProto

from orchestrator.errors import GraphRefused
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_number
from orchestrator.graph.variables.saver import read_saver
from orchestrator.graph.variables.variables import find_variables
from orchestrator.graph.worker_graph import Variable
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints.source import Source


class Constants:
    """The values of a graph's variables, out of its checkpoint."""

    def __init__(self, source: Source, graph: Graph) -> None:
        assert source.index is not None, "a checkpoint was asked for"
        self._index, self._values = source.index, Values(source.index, source.files)
        variables = find_variables(graph, read_saver(graph), source.keys(), set())
        self._variables = {variable.name: variable for variable in variables}

    def holds(self, name: str) -> bool:
        """Whether the checkpoint has a variable's value."""
        return self._variables[name].key in self._index.entries

    def value(self, name: str) -> TensorProto:
        """A variable's value. Raises GraphRefused: the checkpoint doesn't hold it."""
        variable = self._variables[name]
        key = variable.key
        if key is None or not self.holds(name):
            raise GraphRefused(
                f"the checkpoint lacks {name}, from which the output is computed",
                remedy="Name another output with --fetch TENSOR, or use a checkpoint that holds it",
            )
        tensor = self._index.entries[key]
        proto = TensorProto(dtype=dtype_number(tensor.dtype))
        shape = _part_shape(variable) if variable.slice_spec else tensor.shape
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
        if tensor.dtype == "string":
            proto.string_val.extend(self._values.strings(key))
        else:
            proto.tensor_content = self._content(key, variable)
        return proto

    def _content(self, key: str, variable: Variable) -> bytes:
        whole = b"".join(self._values.chunks(key))
        if not variable.slice_spec:
            return whole
        import numpy as np

        tensor = self._index.entries[key]
        # By bytes, since NumPy itself knows no bfloat16
        width = len(whole) // max(1, tensor.elements)
        array = np.frombuffer(whole, np.uint8).reshape(*tensor.shape, width)
        places = tuple(slice(start, start + size) for start, size in _part(variable))
        return array[places].tobytes()


def _part(variable: Variable) -> list[tuple[int, int]]:
    """(start, size) in each dimension of a part of a partitioned variable."""
    *sizes, parts = variable.slice_spec.split()
    found = []
    for size, part in zip(sizes, parts.split(":"), strict=True):
        start, _, length = part.partition(",")
        found.append((0, int(size)) if part == "-" else (int(start), int(length)))
    return found


def _part_shape(variable: Variable) -> tuple[int, ...]:
    return tuple(size for _, size in _part(variable))
