"""Are these bytes a MetaGraphDef?

Rule: a binary MetaGraphDef with nodes, or one in protobuf's text format, is a graph. Anything else
is called by its name (a Git LFS pointer, a Unity asset, a truncated or mangled download, a frozen
graph). Whatever the bytes are, the answer is a graph or a SourceError: protobuf limits the nesting
to 100 messages, the limits below the rest.
"""

from __future__ import annotations

import re

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.errors import SourceError

LIMIT_BYTES = 2 << 30
"""Protobuf's own limit for one message."""
TEXT_LIMIT_BYTES = 256 << 20
"""The text format is parsed in Python at a few MB a second."""
TEXT_DEPTH = 100
"""Protobuf's own limit for the binary format; the text parser has none and recurses."""

COPY_AGAIN = "Copy the file again from where it was trained"
BINARY_COPY = "It was cut off or changed on the way (text mode, CRLF); copy it again in binary mode"
OTHER_META = "Name the .meta file that tf.train.Saver wrote beside the checkpoint"

BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "Run `git lfs pull` where it was cloned",
    ),
    (
        b"/annex/objects/",
        "a git-annex pointer, not the file itself",
        "Run `git annex get` where it was cloned",
    ),
    (b"fileFormatVersion:", "a Unity asset description, not a TensorFlow graph", OTHER_META),
    (b"%YAML", "a YAML document, not a TensorFlow graph", OTHER_META),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras weights), not a TensorFlow graph", OTHER_META),
    (b"\x1f\x8b", "gzipped", "Unpack it first"),
    (b"PK\x03\x04", "a zip archive", "Unpack it first"),
    (b"\x80\x02", "a Python pickle, not a TensorFlow graph", OTHER_META),
    (b"<", "an HTML or XML page: an error page of the server that it was fetched from", COPY_AGAIN),
    (b"{", "JSON, not a TensorFlow graph", OTHER_META),
    (b"model_checkpoint_path:", "the state file `checkpoint`, not a graph", OTHER_META),
)
"""How other files that end in .meta begin, what they are, and what to do."""


def read_meta(data: bytes, *, name: str) -> MetaGraphDef:
    """The MetaGraphDef in ``data``, binary or text.

    Args:
        name: the file's name or URL, for messages.

    Raises:
        SourceError: empty, too large, truncated, or something else than a MetaGraphDef.
    """
    if not data:
        raise SourceError(f"{name} is empty", remedy=COPY_AGAIN)
    if len(data) >= LIMIT_BYTES:
        raise SourceError(
            f"{name} has {len(data)} bytes, more than protobuf's 2 GiB",
            remedy="Move large constants out of the graph",
        )
    meta = MetaGraphDef()
    try:
        meta.ParseFromString(data)
    except DecodeError as error:
        _name_the_file(data, name)
        meta = _read_text(data, name, error)
    if not meta.graph_def.node:
        _name_the_file(data, name)
        raise SourceError(
            f"{name} holds a MetaGraphDef without any node; tf.train.Saver writes none like that",
            remedy=COPY_AGAIN,
        )
    return meta


def _name_the_file(data: bytes, name: str) -> None:
    """Raise what the bytes are where they are something known."""
    start = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    for beginning, what, remedy in BEGINNINGS:
        if start.startswith(beginning):
            raise SourceError(f"{name} is {what}", remedy=remedy)
    if not data[:4096].strip(b"\0"):
        raise SourceError(
            f"{name} begins with {min(len(data), 4096)} zero bytes: it was never written out",
            remedy=COPY_AGAIN,
        )
    if is_graph_def(data):
        raise SourceError(
            f"{name} is a bare GraphDef (a frozen graph), not a MetaGraphDef", remedy=OTHER_META
        )


def _read_text(data: bytes, name: str, cause: DecodeError) -> MetaGraphDef:
    """The text format, or why it's neither text nor binary."""
    if not looks_like_text(data):
        raise _not_binary(data, name, cause) from cause
    if len(data) > TEXT_LIMIT_BYTES:
        raise SourceError(
            f"{name} has {len(data)} bytes of protobuf text, more than {TEXT_LIMIT_BYTES}",
            remedy="Export the graph in binary form",
        ) from cause
    if text_depth(data) > TEXT_DEPTH:
        raise SourceError(
            f"{name} nests messages more than {TEXT_DEPTH} deep", remedy=OTHER_META
        ) from cause
    try:
        return text_format.Parse(data.decode("utf-8"), MetaGraphDef())
    except (text_format.ParseError, ValueError, TypeError) as error:
        raise SourceError.from_cause(
            f"{name} is text and not a MetaGraphDef in protobuf's text format",
            error,
            remedy=OTHER_META,
        ) from error


def looks_like_text(data: bytes) -> bool:
    """Whether the bytes are UTF-8 without control characters, and name a field of a MetaGraphDef
    near their beginning.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if re.search(rb"[\x00-\x08\x0e-\x1f]", data):
        return False
    return (
        re.search(
            rb"\b(meta_info_def|graph_def|saver_def|collection_def|signature_def)\b", data[:65536]
        )
        is not None
    )


def text_depth(data: bytes) -> int:
    """How deep braces are nested in protobuf text; braces in strings count too, which errs on the
    safe side only for odd files.
    """
    depth = deepest = 0
    for match in re.finditer(rb'"(?:[^"\\\n]|\\.)*"|[{}<>]', data):
        character = match.group()
        if character in (b"{", b"<"):
            depth += 1
            deepest = max(deepest, depth)
        elif character in (b"}", b">"):
            depth -= 1
    return deepest


def _not_binary(data: bytes, name: str, cause: DecodeError) -> SourceError:
    if is_crlf_mangled(data):
        return SourceError(
            f"{name} was mangled: every line feed in it became CR LF",
            remedy="Copy it again in binary mode",
        )
    return SourceError.from_cause(f"{name} is not a MetaGraphDef", cause, remedy=BINARY_COPY)


def is_crlf_mangled(data: bytes) -> bool:
    """Whether a binary file went through a text-mode transfer: many line feeds, and each with a
    carriage return before it.
    """
    feeds = data.count(b"\n")
    return feeds >= 8 and data.count(b"\r\n") == feeds


def is_graph_def(data: bytes) -> bool:
    """Whether ``data`` is a GraphDef with nodes that have a name and an operation."""
    graph = GraphDef()
    try:
        graph.ParseFromString(data)
    except DecodeError:
        return False
    return bool(graph.node) and all(node.name and node.op for node in graph.node)
