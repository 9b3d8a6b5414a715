"""What tf2onnx can't convert is named, and so are versions that don't go together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from orchestrator.errors import ConfigError, GraphRefused
from orchestrator.exports import onnx_extra
from orchestrator.exports.onnx_extra import require_installed
from orchestrator.training.baseline.onnx_model import runner, to_onnx


@dataclass
class Body:
    """A graph as ONNX has it, as far as it's looked at."""

    node: list[Node] = field(default_factory=list)


@dataclass
class Attribute:
    g: Body = field(default_factory=Body)
    graphs: list[Body] = field(default_factory=list)


@dataclass
class Node:
    op_type: str
    name: str = "a"
    domain: str = ""
    attribute: list[Attribute] = field(default_factory=list)


@dataclass
class Opset:
    domain: str
    version: int


@dataclass
class Model:
    graph: Body
    opset_import: tuple[Opset, ...] = (Opset("ai.onnx.ml", 2), Opset("", 15))

    def SerializeToString(self) -> bytes:
        return b"the model"


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a tf2onnx in place that gives a graph, or raises."""

    def put(outcome: Body | Exception) -> None:
        def from_graph_def(graph: Any, **names: list[str]) -> tuple[Model, None]:
            assert names == {"input_names": ["x:0"], "output_names": ["y:0"]}
            if isinstance(outcome, Exception):
                raise outcome
            return Model(outcome), None

        convert, onnx, defs = ModuleType("convert"), ModuleType("onnx"), ModuleType("defs")
        convert.__dict__["from_graph_def"] = from_graph_def
        onnx.__dict__["defs"] = defs
        defs.__dict__["has"] = lambda name, domain: (
            (name, domain)
            in {
                ("MatMul", ""),
                ("Loop", ""),
                ("If", ""),
            }
        )
        monkeypatch.setitem(sys.modules, "tf2onnx", ModuleType("tf2onnx"))
        monkeypatch.setitem(sys.modules, "tf2onnx.convert", convert)
        monkeypatch.setitem(sys.modules, "onnx", onnx)

    return put


def test_graph_of_known_operations_becomes_a_model(converter: Callable[..., None]) -> None:
    converter(Body([Node("MatMul")]))
    content, made_by = to_onnx(object(), ["x:0"], ["y:0"])
    assert content == b"the model"
    assert made_by.endswith("opset 15")


def test_operations_that_tf2onnx_leaves_as_they_are_are_all_named(
    converter: Callable[..., None],
) -> None:
    body = Body([Node("Unique", "loop/u"), Node("MatMul")])
    branch = Body([Node("PyFunc", "if/p"), Node("PyFunc", "if/q")])
    converter(
        Body(
            [
                Node("Loop", attribute=[Attribute(g=body)]),
                Node("If", attribute=[Attribute(graphs=[branch])]),
                Node("MatMul", "foreign", domain="com.example"),
            ]
        )
    )
    with pytest.raises(GraphRefused, match="--fetch") as caught:
        to_onnx(object(), ["x:0"], ["y:0"])
    assert "Unique (loop/u), PyFunc (if/p), MatMul (foreign)." in str(caught.value)
    assert len(caught.value.details["operations"]) == 4


def test_whatever_tf2onnx_raises_is_a_refusal_with_its_words(
    converter: Callable[..., None],
) -> None:
    converter(KeyError("make_sure failure: rank unknown"))
    with pytest.raises(GraphRefused, match="rank unknown"):
        to_onnx(object(), ["x:0"], ["y:0"])


def test_graph_without_inputs_is_refused_before_tf2onnx_is_asked() -> None:
    with pytest.raises(GraphRefused, match="without inputs"):
        to_onnx(object(), [], ["y:0"])


def test_versions_that_do_not_go_together_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name.partition(".")[0] in ("tf2onnx", "onnxruntime"):
                raise AttributeError("module 'numpy' has no attribute 'cast'")

    for name in [name for name in sys.modules if name.partition(".")[0] == "tf2onnx"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ConfigError, match=r"tensorflow \d.*no attribute 'cast'.*--to frozen"):
        to_onnx(object(), ["x:0"], ["y:0"])
    with pytest.raises(ConfigError, match=r"onnxruntime can't be imported"):
        runner("model.onnx")


def test_missing_extra_is_refused_with_both_ways_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnx_extra, "find_spec", lambda name: None if name == "tf2onnx" else object()
    )
    with pytest.raises(ConfigError, match="takes tf2onnx, which isn't installed") as caught:
        require_installed()
    assert "pip install tf2onnx" in caught.value.remedy
    assert "--to frozen" in caught.value.remedy
