"""Are these bytes a MetaGraphDef?

Rule: look at the bytes before a parser does, so that a Git LFS pointer, a Unity asset or a truncated download is called by its name
and never becomes a protobuf message. Binary is tried first, then the text format.
"""

from __future__ import annotations

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.errors import SourceError

LIMIT_BYTES = 2 << 30
"""Protobuf's own limit for one message."""


def read_meta(data: bytes, *, name: str) -> MetaGraphDef:
    """The MetaGraphDef in ``data``, binary or text.

    Args:
        name: the file's name or URL, for messages.

    Raises:
        SourceError: empty, too large, truncated, or something else than a MetaGraphDef.
    """
    _sniff(data, name)
    meta = MetaGraphDef()
    try:
        meta.ParseFromString(data)
    except DecodeError as error:
        meta = _read_text(data, name, error)
    if not meta.graph_def.node:
        raise SourceError(f"{name} holds a MetaGraphDef without any node", remedy="Export the graph again with tf.train.Saver")
    return meta


def _sniff(data: bytes, name: str) -> None:
    if not data:
        raise SourceError(f"{name} is empty", remedy="Copy the file again from where it was trained")
    if len(data) >= LIMIT_BYTES:
        raise SourceError(
            f"{name} has {len(data)} bytes, more than protobuf's 2 GiB", remedy="Move large constants out of the graph"
        )
    if data.startswith(b"version https://git-lfs"):
        raise SourceError(f"{name} is a Git LFS pointer, not the file itself", remedy="Run `git lfs pull` where it was cloned")
    if data.startswith((b"fileFormatVersion:", b"%YAML")):
        raise SourceError(f"{name} is a Unity asset description, not a TensorFlow graph", remedy="Name another .meta file")


def _read_text(data: bytes, name: str, cause: Exception) -> MetaGraphDef:
    remedy = "It is truncated or was changed in transfer (text mode, CRLF); copy it again in binary mode"
    try:
        return text_format.Parse(data.decode("utf-8"), MetaGraphDef())
    except (UnicodeDecodeError, text_format.ParseError):
        raise SourceError.from_cause(f"{name} is not a MetaGraphDef", cause, remedy=remedy) from cause
