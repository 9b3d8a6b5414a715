"""What does the file of an exported graph hold?

Rule: a frozen graph alone, or in a SavedModel with its signature and what fills its tables. Nothing
lies beside it: its variables are constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.tensors import dtype_number
from orchestrator.graph.inference.freezing import Frozen
from orchestrator.store.bundle.table_writer import varint

GraphFormat = Literal["frozen", "saved-model"]
FILES: dict[GraphFormat, str] = {"frozen": "frozen.pb", "saved-model": "saved_model.pb"}
SIGNATURE = "serving_default"
INIT_SIGNATURE = "__saved_model_init_op"
PREDICT = "tensorflow/serving/predict"


@dataclass(frozen=True)
class Endpoint:
    """An input or output of the export: its tensor, its key in the signature, type."""

    tensor: str
    key: str
    dtype: str


def graph_bytes(
    to: GraphFormat, frozen: Frozen, inputs: Sequence[Endpoint], outputs: Sequence[Endpoint]
) -> bytes:
    """The file's content."""
    if to == "frozen":
        return bytes(frozen.graph.SerializeToString(deterministic=True))
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
    if frozen.init:
        meta.signature_def[INIT_SIGNATURE].outputs[INIT_SIGNATURE].name = frozen.init
    content = bytes(meta.SerializeToString(deterministic=True))
    # SavedModel: schema version 1 in field 1, the graph in field 2
    return b"\x08\x01\x12" + varint(len(content)) + content
