"""What does the file of an exported graph hold?

Rule: a frozen graph alone, or in a SavedModel with its signature and what fills its tables. No
variables lie beside it: they're constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from orchestrator.graph.graphdef.tensors import dtype_number
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.inference.freezing import Frozen
from orchestrator.graph.inputs.ports import SCALAR_MEANS_UNKNOWN
from orchestrator.store.bundle.table_writer import varint

GraphFormat = Literal["frozen", "saved-model", "onnx"]
FILES: dict[GraphFormat, str] = {
    "frozen": "frozen.pb",
    "saved-model": "saved_model.pb",
    "onnx": "model.onnx",
}
SIGNATURE = "serving_default"
INIT_SIGNATURE = "__saved_model_init_op"
PREDICT = "tensorflow/serving/predict"


@dataclass(frozen=True)
class Endpoint:
    """An input or output of the export: its tensor, its key in the signature, type."""

    tensor: str
    key: str
    dtype: str


def endpoints(tensors: Sequence[tuple[str, str]]) -> tuple[Endpoint, ...]:
    """Endpoints with keys that a signature takes: the node's name, made distinct."""
    found: dict[str, Endpoint] = {}
    for tensor, dtype in tensors:
        edge = parse_tensor(tensor)
        key = edge.node.replace("/", "_") + (f"_{edge.port}" if edge.port else "")
        while key in found:
            key += "_"
        found[key] = Endpoint(tensor, key, dtype)
    return tuple(found.values())


def graph_bytes(
    to: GraphFormat,
    frozen: Frozen,
    inputs: Sequence[Endpoint],
    outputs: Sequence[Endpoint],
    assets: Mapping[str, str],
) -> bytes:
    """The file's content; for ``onnx`` the frozen graph of which the file is made.

    Args:
        assets: of a SavedModel: constants to the files in its directory ``assets`` that they name.
    """
    if to != "saved-model":
        graph = frozen.graph if to == "frozen" else _with_defaults(frozen.graph)
        return bytes(graph.SerializeToString(deterministic=True))
    meta = MetaGraphDef()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.CopyFrom(frozen.graph)
    signature = meta.signature_def[SIGNATURE]
    signature.method_name = PREDICT
    for given, endpoints in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for one in endpoints:
            given[one.key].name = one.tensor
            given[one.key].dtype = dtype_number(one.dtype)
            given[one.key].tensor_shape.unknown_rank = True
    for node in meta.graph_def.node:
        if node.name in assets:
            # The path of another machine, which the loader replaces
            node.attr["value"].tensor.string_val[0] = assets[node.name].encode()
    for name, file in assets.items():
        asset = meta.asset_file_def.add(filename=file)
        asset.tensor_info.name = f"{name}:0"
        asset.tensor_info.dtype = dtype_number("string")
    if frozen.init:
        meta.signature_def[INIT_SIGNATURE].outputs[INIT_SIGNATURE].name = frozen.init
    content = bytes(meta.SerializeToString(deterministic=True))
    # SavedModel: schema version 1 in field 1, the graph in field 2
    return b"\x08\x01\x12" + varint(len(content)) + content


def _with_defaults(frozen: GraphDef) -> GraphDef:
    """A copy in which inputs that need not be given are their defaults: tf2onnx takes constants
    alone for such, and they aren't inputs of the signature either. It also forgets the graph's
    version, so that a shape which old versions left open is said, as far as it was noted.
    """
    graph = GraphDef()
    graph.CopyFrom(frozen)
    old = graph.versions.producer <= SCALAR_MEANS_UNKNOWN
    for node in graph.node:
        if node.op == "Placeholder" and old and not node.attr["shape"].shape.dim:
            noted = node.attr["_output_shapes"].list.shape
            node.attr["shape"].shape.CopyFrom(
                noted[0] if noted else TensorShapeProto(unknown_rank=True)
            )
        if node.op == "PlaceholderWithDefault":
            dtype = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
    return graph
