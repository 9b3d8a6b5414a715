"""Without which repairs can't TensorFlow import a graph?

Rule: only what stops the import is touched, each repair is put into words, and a graph that needs none is handed on as it is. Operations
of Horovod are the identity in a group of one and are bypassed; the exchange between workers is tfresume's own.
"""

from __future__ import annotations

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.attributes import attribute
from orchestrator.graph.compat import mend
from orchestrator.graph.edit import Editor
from orchestrator.graph.opset import merged
from orchestrator.graph.view import parse_tensor

IDENTITIES = frozenset({"HorovodAllreduce", "HorovodAllgather", "HorovodBroadcast"})
"""What these do to the tensor of the only process: nothing."""


def repair(meta: MetaGraphDef, config: RunConfig) -> tuple[MetaGraphDef, tuple[str, ...]]:
    """A repaired copy of ``meta``, and each repair in words; ``meta`` itself where there are none."""
    mended, done = mend(meta, merged(meta), force=config.force)
    if config.load_op_library:
        return mended, done
    bypassed = [node.name for node in mended.graph_def.node if node.op in IDENTITIES]
    if not bypassed:
        return mended, done
    editor = Editor(mended)
    for name in bypassed:
        _bypass(editor, name)
    kinds = ", ".join(sorted({node.op for node in mended.graph_def.node if node.op in IDENTITIES}))
    return editor.meta, (*done, f"{len(bypassed)} operations ({kinds}) bypassed: the identity for a single process")


def _bypass(editor: Editor, name: str) -> None:
    node = editor.node(name)
    inputs = [parse_tensor(text) for text in node.input if not text.startswith("^")]
    controls = [text[1:] for text in node.input if text.startswith("^")]
    editor.change_op(name, "Identity", inputs[:1], controls, {"T": attribute(node, "T")})
