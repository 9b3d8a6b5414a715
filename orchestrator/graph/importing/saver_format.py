"""How does a saver of the old V1 format read and write the V2 format?

Rule: under the same names, ``RestoreSlice`` and ``Restore`` become RestoreV2, which reads files of
both formats, and the saver's own ``SaveSlices`` or ``Save`` becomes SaveV2. What tfresume writes is
V2, so plain TensorFlow could read none of it otherwise. Only what takes its keys from constants is
changed; a sharded saver goes on writing V1, whose shards nobody else would merge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.saver_pb2 import SaverDef

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.constants import constant_strings
from orchestrator.graph.graphdef.edit import OWN, Editor, strings_attributes
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import Edge, parse_tensor

RESTORES = frozenset({"Restore", "RestoreSlice"})
PARTS = ("tensor_names", "shape_and_slices")
SAVES = frozenset({"Save", "SaveSlices"})


def modernised(meta: MetaGraphDef, ops: OpSet) -> tuple[MetaGraphDef, tuple[str, ...]]:
    """A copy whose savers speak V2, and what was done in words; ``meta`` itself where there was
    nothing to do.
    """
    if not any(node.op in RESTORES for node in meta.graph_def.node):
        return meta, ()
    editor = Editor(meta)
    graph = Graph(meta, ops)
    restores = [
        name
        for name, op in graph.view.ops.items()
        if op in RESTORES and _restore_v2(editor, graph, name)
    ]
    saves = [name for name in _own_saves(graph) if _save_v2(editor, graph, name)]
    if not restores:
        return meta, ()
    if saves:
        editor.meta.saver_def.version = SaverDef.V2
    said = f"{len(restores)} operations that restore from the old V1 format only read V2 as well"
    return editor.meta, (said + (", and the saver writes V2" if saves else ""),)


def _own_saves(graph: Graph) -> list[str]:
    """The operation with which the graph's saver writes one file; none for a sharded saver, whose
    operations each write a shard under a name of its own (ShardedFilename).
    """
    definition = graph.meta.saver_def
    closure = graph.view.ancestors([parse_tensor(definition.save_tensor_name).node])
    found = [name for name in graph.view.nodes if name in closure and graph.view.op(name) in SAVES]
    filename = parse_tensor(definition.filename_tensor_name)
    return found if len(found) == 1 and graph.view.data[found[0]][:1] == (filename,) else []


def _restore_v2(editor: Editor, graph: Graph, name: str) -> bool:
    data = graph.view.data[name]
    dtype = attribute(graph.view.nodes[name], "dt").type
    return _rewrite(
        editor, graph, name, "RestoreV2", data[:1], data[1:], 1, lambda: _types([dtype])
    )


def _save_v2(editor: Editor, graph: Graph, name: str) -> bool:
    data, node = graph.view.data[name], graph.view.nodes[name]
    keyed = 3 if node.op == "SaveSlices" else 2
    types = list(attribute(node, "T").list.type)
    return _rewrite(
        editor,
        graph,
        name,
        "SaveV2",
        data[:1],
        data[1:keyed],
        len(types),
        lambda: _types(types),
        data[keyed:],
    )


def _rewrite(
    editor: Editor,
    graph: Graph,
    name: str,
    op: str,
    file: Sequence[Edge],
    keyed: Sequence[Edge],
    count: int,
    attributes: Callable[[], dict[str, AttrValue]],
    tensors: Sequence[Edge] = (),
) -> bool:
    """Make a node ``op`` with its keys and slices as vectors; False where they aren't constants,
    and then nothing is changed.
    """
    said = [constant_strings(graph.view, edge) for edge in keyed]
    keys = said[0] if said else None
    slices = said[1] if len(said) > 1 else [""] * count
    if keys is None or slices is None or not len(keys) == len(slices) == count:
        return False
    if any(f"{OWN}{name}/{part}" in editor for part in PARTS):  # another node has the name
        return False
    device = graph.view.nodes[name].device
    names = [
        editor.add("Const", f"{name}/{part}", attributes=strings_attributes(values), device=device)
        for part, values in zip(PARTS, (keys, slices), strict=True)
    ]
    editor.change_op(
        name,
        op,
        [*file, *(Edge(each, 0) for each in names), *tensors],
        graph.view.controls[name],
        attributes(),
    )
    return True


def _types(numbers: Sequence[int]) -> dict[str, AttrValue]:
    value = AttrValue()
    value.list.type.extend(numbers)
    return {"dtypes": value}
