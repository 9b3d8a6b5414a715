"""Whatever the bytes are, reading them gives a graph or a SourceError that says what they are."""

from __future__ import annotations

import gzip

import pytest
from google.protobuf import text_format
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.errors import SourceError
from orchestrator.graph.graphdef.meta import is_crlf_mangled, read_meta


def _meta(nodes: int = 20) -> MetaGraphDef:
    meta = MetaGraphDef()
    meta.meta_info_def.tensorflow_version = "1.15.0"
    for number in range(nodes):
        meta.graph_def.node.add(
            name=f"node_{number}", op="NoOp", input=[f"^node_{number - 1}"] if number else []
        )
    return meta


def test_read_meta_of_binary_gives_the_graph() -> None:
    meta = _meta()
    assert read_meta(meta.SerializeToString(), name="a.meta") == meta


@pytest.mark.parametrize("length", range(2, 300))
def test_read_meta_of_binary_is_accepted_whatever_the_first_lengths_look_like(length: int) -> None:
    meta = _meta(1)
    meta.meta_info_def.Clear()
    meta.meta_info_def.tensorflow_version = "1" * length
    assert read_meta(meta.SerializeToString(), name="a.meta") == meta


def test_read_meta_of_text_gives_the_graph() -> None:
    meta = _meta()
    assert read_meta(text_format.MessageToString(meta).encode(), name="a.meta") == meta


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\0" * 10_000, "zero bytes"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "Git LFS pointer",
        ),
        (b"fileFormatVersion: 2\nguid: 8f8e\nTextureImporter:\n", "Unity asset"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>404</html>", "HTML or XML page"),
        (b'{"graph": 1}', "JSON"),
        (b'model_checkpoint_path: "model.ckpt-1"\n', "state file"),
        (gzip.compress(b"x" * 100, mtime=0), "gzipped"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5"),
        (_meta().graph_def.SerializeToString(), "bare GraphDef"),
        (MetaGraphDef().SerializeToString() or b"\x12\x00", "without any node"),
        (_meta().SerializeToString()[:-7], "is not a MetaGraphDef"),
        (_meta().SerializeToString().replace(b"\n", b"\r\n"), "CR LF"),
        (b"graph_def { node { name: 'x' op: 'NoOp' nonsense: 1 } }", "text and not a MetaGraphDef"),
        (b"graph_def { node { name: 'x'", "text and not a MetaGraphDef"),
        (b"graph_def " + b"{ node " * 50_000, "deep"),
        (b"\xff\xfe\x00random", "is not a MetaGraphDef"),
    ],
)
def test_read_meta_of_something_else_names_it(data: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        read_meta(data, name="gs://b/a.meta")
    assert "gs://b/a.meta" in caught.value.message
    assert caught.value.remedy


def test_read_meta_of_deeply_nested_binary_is_refused() -> None:
    data = b""
    for _ in range(2000):
        data = b"\x0a" + _varint(len(data)) + data
    with pytest.raises(SourceError):
        read_meta(b"\x12" + _varint(len(data)) + data, name="a.meta")


def test_is_crlf_mangled_of_a_sound_file_is_false() -> None:
    assert not is_crlf_mangled(_meta().SerializeToString())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
