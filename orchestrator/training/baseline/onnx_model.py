"""How does a frozen graph become an ONNX model, and what does that give?

Rule: tf2onnx converts, and goes on where it can't; so every operation of what it made is looked up
among ONNX's own, and a model with others is refused with all their names. onnxruntime, as users
have it, opens and runs the model. Neither is imported by anything else, both come with the extra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from orchestrator.errors import ConfigError, GraphRefused

_PACKAGES = ("tf2onnx", "onnx", "onnxruntime", "tensorflow", "numpy", "protobuf")
SHOWN = 5
"""Operations that are named; a graph may hold hundreds of one kind."""
_INSTEAD = "Name an output before them with --fetch TENSOR, or export --to saved-model"


def to_onnx(graph: Any, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[bytes, str]:
    """The model, and what made it, in words.

    Args:
        graph: TensorFlow's GraphDef, without variables.
        inputs, outputs: tensor names, which the model's own inputs and outputs have too.

    Raises:
        ConfigError: the installed versions don't go together.
        GraphRefused: the graph has no inputs, or tf2onnx can't convert it.
    """
    if not inputs:
        raise GraphRefused(
            "tf2onnx converts no graph without inputs, and the output is computed from variables alone",
            remedy="Export them with --to npz or --to safetensors, or the graph with --to saved-model",
        )
    convert, onnx = _imported("tf2onnx.convert"), _imported("onnx")
    try:
        model, _ = convert.from_graph_def(
            graph, input_names=list(inputs), output_names=list(outputs)
        )
    except Exception as error:
        raise GraphRefused.from_cause(
            "tf2onnx can't convert the graph", error, remedy=_INSTEAD
        ) from error
    unknown = list(strangers(model.graph, onnx.defs.has))
    if unknown:
        raise GraphRefused(
            f"tf2onnx can't convert {_listed(unknown)}",
            remedy=_INSTEAD,
            details={"operations": [list(pair) for pair in unknown]},
        )
    opset = next(one.version for one in model.opset_import if not one.domain)
    return model.SerializeToString(), f"tf2onnx {_version('tf2onnx')}, opset {opset}"


def strangers(graph: Any, known: Callable[[str, str], bool]) -> Iterator[tuple[str, str]]:
    """(operation, node) of every node that ONNX doesn't know, in bodies of loops and branches too.

    Args:
        graph: an ONNX GraphProto.
        known: whether there is an operation of that name in that domain.
    """
    for node in graph.node:
        if not known(node.op_type, node.domain):
            yield node.op_type, node.name
        for attribute in node.attribute:
            yield from strangers(attribute.g, known)
            for body in attribute.graphs:
                yield from strangers(body, known)


def _listed(unknown: Sequence[tuple[str, str]]) -> str:
    kinds: dict[str, str] = {}
    for op, name in unknown:
        kinds.setdefault(op, name)
    shown = ", ".join(f"{op} ({name})" for op, name in list(kinds.items())[:SHOWN])
    more = len(kinds) - SHOWN
    return shown + (f" and {more} more kinds of operations" if more > 0 else "")


def runner(path: str) -> Callable[[Sequence[str], Mapping[str, Any]], dict[str, Any]]:
    """What computes outputs of a model for a batch; inputs that it doesn't have are left out.

    Raises:
        ConfigError: the installed versions don't go together.
        GraphRefused: onnxruntime can't open the model, or, when it's called, run it.
    """
    runtime = _imported("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # what goes wrong is raised
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise GraphRefused.from_cause(
            "onnxruntime can't open what tf2onnx made", error, remedy=_INSTEAD
        ) from error
    taken = {one.name for one in session.get_inputs()}

    def run(outputs: Sequence[str], batch: Mapping[str, Any]) -> dict[str, Any]:
        feeds = {name: np.asarray(value) for name, value in batch.items() if name in taken}
        try:
            values = session.run(list(outputs), feeds)
        except Exception as error:
            raise GraphRefused.from_cause(
                "onnxruntime can't run what tf2onnx made", error, remedy=_INSTEAD
            ) from error
        return {name: _as_bytes(value) for name, value in zip(outputs, values, strict=True)}

    return run


def _as_bytes(value: Any) -> Any:
    """Strings as TensorFlow gives them."""
    array = np.asarray(value)
    if array.dtype.kind not in "OU":
        return array
    return np.array([str(each).encode() for each in array.flat], object).reshape(array.shape)


def _imported(name: str) -> Any:
    try:
        return import_module(name)
    except Exception as error:
        # Of versions that don't fit the import itself fails, in whatever way
        there = ", ".join(f"{package} {_version(package)}" for package in _PACKAGES)
        raise ConfigError.from_cause(
            f"{name} can't be imported beside this TensorFlow ({there})",
            error,
            remedy="Install versions that fit (`pip install -U tf2onnx onnx onnxruntime`), or export --to frozen and convert elsewhere",
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
