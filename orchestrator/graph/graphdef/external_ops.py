"""Which operations reach beyond the process: files, Python or native code, the network?

Rule: judged by the OpDef's argument names where these tell (so that operations of later TensorFlows
and of libraries are judged too), and by the tables below where they don't.
"""

from __future__ import annotations

from typing import Literal

from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.op_def_pb2 import OpDef

Reach = Literal["reads files", "writes files", "runs code", "opens sockets"]

PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
"""They call a Python function that the process registered under the node's ``token``."""

RUNS_CODE = PYTHON | {
    "XlaCustomCall",
    "XlaCustomCallV2",
    "XlaCallModule",
    "RemoteCall",
    "TfLiteSubgraphExecute",
    "TRTEngineOp",
}

WRITES_FILES = frozenset(
    {
        "WriteFile",
        "Save",
        "SaveSlices",
        "SaveV2",
        "MergeV2Checkpoints",
        "DatasetToTFRecord",
        "ExperimentalDatasetToTFRecord",
        "SaveDataset",
        "SaveDatasetV2",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "DumpTensor",
        "CalibrationStatisticsSaver",
        "CreateSummaryFileWriter",
        "CreateSummaryDbWriter",
        "DebugIdentity",
        "DebugIdentityV2",
        "DebugIdentityV3",
        "DebugNanCount",
        "DebugNumericSummary",
        "CacheDataset",
        "CacheDatasetV2",
        "PrintV2",
        "SerializeTRTResource",
    }
)

READS_FILES = frozenset(
    {
        "ReadFile",
        "MatchingFiles",
        "MatchingFilesDataset",
        "ExperimentalMatchingFilesDataset",
        "ReaderRead",
        "ReaderReadV2",
        "ReaderReadUpTo",
        "ReaderReadUpToV2",
        "LMDBReader",
        "Restore",
        "RestoreSlice",
        "RestoreV2",
        "SqlDataset",
        "ExperimentalSqlDataset",
        "SnapshotDatasetReader",
        "SnapshotChunkDataset",
        "LoadDataset",
        "ImmutableConst",
        "DecodeProtoV2",
        "EncodeProto",
    }
)
"""The others that read files say so by an argument named as in ``FILE_ARGUMENTS``. A reader's
handle opens nothing, reading does.
"""

OPENS_SOCKETS = frozenset(
    {
        "RpcServer",
        "RpcServerStart",
        "RpcServerRegister",
        "RpcClient",
        "RpcCall",
        "RegisterDataset",
        "RegisterDatasetV2",
        "DistributedSave",
        "DataServiceDataset",
        "DataServiceDatasetV2",
        "DataServiceDatasetV3",
        "DataServiceDatasetV4",
        "CollectiveInitializeCommunicator",
        "ConfigureDistributedTPU",
        "ConfigureAndInitializeGlobalTPU",
        "GcsConfigureCredentials",
        "GcsConfigureBlockCache",
        "FileSystemSetConfiguration",
        "BigQueryReader",
        "Send",
        "Recv",
        "_Send",
        "_Recv",
        "_HostSend",
        "_HostRecv",
    }
)

FILE_ARGUMENTS = frozenset(
    {
        "filename",
        "filenames",
        "file_pattern",
        "file_name",
        "vocab_file",
        "new_vocab_file",
        "old_vocab_file",
        "ckpt_path",
        "db_uri",
    }
)
"""Inputs and attributes that name files to read."""

SOCKET_ARGUMENTS = frozenset(
    {"server_address", "address", "servers", "brokers", "endpoint", "bootstrap_servers"}
)

HARMLESS = frozenset({"ShardedFilename", "ShardedFilespec"})
"""They put file names together and touch none."""

LOCAL_STREAMS = (b"stdout", b"stderr", b"log(")
"""Where PrintV2 may write without touching a file."""


def reach_of(op_type: str, definition: OpDef | None) -> Reach | None:
    """What operations of this type do beyond the graph, None where nothing."""
    if op_type in HARMLESS:
        return None
    if op_type in RUNS_CODE:
        return "runs code"
    if op_type in OPENS_SOCKETS:
        return "opens sockets"
    if op_type in WRITES_FILES:
        return "writes files"
    if op_type in READS_FILES:
        return "reads files"
    if definition is None:
        return None
    names = {item.name for item in (*definition.input_arg, *definition.attr)}
    if names & SOCKET_ARGUMENTS:
        return "opens sockets"
    return "reads files" if names & FILE_ARGUMENTS else None


def reaches_out(node: NodeDef) -> bool:
    """Whether this node does what its type can do: some do only where an attribute names a file."""
    for attribute in ("vocab_file", "debug_urls", "memory_region_name"):
        if attribute in node.attr:
            return any(_texts(node.attr[attribute]))
    if "output_stream" in node.attr:
        return any(
            not text.startswith(LOCAL_STREAMS) for text in _texts(node.attr["output_stream"])
        )
    if "descriptor_source" in node.attr:
        return any(
            text and not text.startswith((b"local://", b"bytes://"))
            for text in _texts(node.attr["descriptor_source"])
        )
    return node.op not in ("PrintV2", "DecodeProtoV2", "EncodeProto")


def _texts(value: AttrValue) -> list[bytes]:
    return [value.s] if value.WhichOneof("value") == "s" else list(value.list.s)
