"""How does a lookup take rows that were fetched, and how does an owner give them?

Rule: lookups of one tensor share one placeholder for its rows. What reads a resource becomes the
operation that does the same with a tensor, under its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from orchestrator.graph.graphdef.edit import (
    Editor,
    constant_attributes,
    integer_attribute,
    shape_attribute,
    type_attribute,
)
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.tensors import dtype_name
from orchestrator.graph.graphdef.view import Edge
from orchestrator.graph.tables.elementwise import shape_before
from orchestrator.graph.tables.find import TablePart
from orchestrator.graph.tables.obstacles import source_of
from orchestrator.graph.tables.rows import RowUse, variable_shape
from orchestrator.graph.worker_graph import Shape
from orchestrator.graph.worker_tables import Lookup, TableRead

_OF_A_TENSOR = {"ResourceGather": "GatherV2", "ResourceGatherNd": "GatherNd"}


@dataclass
class _Read:
    part: int
    wanted: Edge
    fetch: Edge
    rows: Edge
    lookups: list[Lookup] = field(default_factory=list)


class LookupWriter:
    """The lookups of all tables of a graph, as they're changed in the editor's graph.

    Args:
        graph: before any change.
        targets: the operations that train.
    """

    def __init__(self, editor: Editor, graph: Graph, targets: list[str]) -> None:
        self._editor, self._graph = editor, graph
        self._above = [graph.view.ancestors([target]) for target in targets]
        self._reads: dict[Edge, _Read] = {}

    def write(self, number: int, part: TablePart) -> None:
        """Change the lookups of a part, which is the ``number``-th."""
        for use in part.lookups:
            self._take_rows(number, use)

    def reads(self) -> tuple[TableRead, ...]:
        """What was read."""
        return tuple(
            TableRead(
                read.part,
                read.wanted.tensor,
                read.fetch.tensor,
                read.rows.tensor,
                tuple(read.lookups),
            )
            for read in self._reads.values()
        )

    def _take_rows(self, number: int, use: RowUse) -> None:
        read, ids = self._read(number, use), self._graph.view.data[use.node][1]
        dtype = self._graph.dtype(ids)
        positions = self._placeholder(
            f"{self._name(read)}/positions/{len(read.lookups)}",
            dtype,
            shape_before(self._graph, ids),
        )
        self._rewire(use.node, read.rows, positions, dtype)
        needing = [at for at, above in enumerate(self._above) if use.node in above]
        read.lookups.append(
            Lookup(
                use.node,
                ids.tensor,
                positions.tensor,
                self._graph.view.op(use.node).endswith("Nd"),
                tuple(needing or range(len(self._above))),
            )
        )

    def _name(self, read: _Read) -> str:
        return read.rows.node.rpartition("/")[0]

    def _read(self, number: int, use: RowUse) -> _Read:
        source = source_of(self._graph, use)
        if source not in self._reads:
            name = f"tables/reads/{len(self._reads)}"
            handle = self._graph.dtype(source) == "resource"
            dtype = self._dtype(use.variable) if handle else self._graph.dtype(source)
            wanted = self._placeholder(f"{name}/wanted", "int64", (None,))
            if handle:
                fetch = self._editor.add(
                    "ResourceGather",
                    f"{name}/fetch",
                    [source, wanted],
                    attributes={
                        "dtype": type_attribute(dtype),
                        "Tindices": type_attribute("int64"),
                    },
                )
            else:
                axis = self._axis(f"{name}/axis")
                fetch = self._editor.add(
                    "GatherV2",
                    f"{name}/fetch",
                    [source, wanted, axis],
                    attributes=_gather(dtype, "int64"),
                )
            row_shape = (variable_shape(self._graph, use.variable) or ())[1:]
            rows = self._placeholder(f"{name}/rows", dtype, (None, *row_shape))
            self._reads[source] = _Read(number, wanted, Edge(fetch, 0), rows)
        return self._reads[source]

    def _dtype(self, node: str) -> str:
        """What a variable or a placeholder holds."""
        return dtype_name(self._editor.node(node).attr["dtype"].type)

    def _axis(self, name: str) -> Edge:
        attributes = constant_attributes(np.array(0, np.int32))
        return Edge(self._editor.add("Const", name, attributes=attributes), 0)

    def _placeholder(self, name: str, dtype: str, shape: Shape) -> Edge:
        attributes = {"dtype": type_attribute(dtype), "shape": shape_attribute(shape)}
        return Edge(self._editor.add("Placeholder", name, attributes=attributes), 0)

    def _rewire(self, name: str, rows: Edge, positions: Edge, index_dtype: str) -> None:
        op = self._graph.view.op(name)
        if op not in _OF_A_TENSOR:
            self._editor.set_input(name, 0, rows)
            self._editor.set_input(name, 1, positions)
            return
        dtype = self._dtype(rows.node)
        controls, inputs = self._graph.view.controls[name], [rows, positions]
        if op == "ResourceGather":
            inputs.append(self._axis(f"{rows.node}/axis/{name}"))
            attributes = _gather(dtype, index_dtype)
        else:
            attributes = {
                "Tparams": type_attribute(dtype),
                "Tindices": type_attribute(index_dtype),
            }
        self._editor.change_op(name, _OF_A_TENSOR[op], inputs, controls, attributes)


def _gather(dtype: str, index_dtype: str) -> dict[str, AttrValue]:
    return {
        "Tparams": type_attribute(dtype),
        "Tindices": type_attribute(index_dtype),
        "Taxis": type_attribute("int32"),
        "batch_dims": integer_attribute(0),
    }
