"""Without which repairs can't TensorFlow import a graph, or load what we save of it?

Rule: only what stops that is touched, each repair is put into words, and a graph that needs none is
handed on as it is. Operations of Horovod are the identity in a group of one and are bypassed; the
exchange between workers is tfresume's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.opset import OpSet, merged
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.importing.compat import Compatibility, compatibility, mend
from orchestrator.graph.importing.saver_format import modernised

IDENTITIES = frozenset({"HorovodAllreduce", "HorovodAllgather", "HorovodBroadcast"})
"""What these do to the tensor of the only process: nothing."""


@dataclass(frozen=True)
class Repaired:
    """A graph that TensorFlow can import, as far as it can be made so.

    Attributes:
        meta: the repaired copy; the graph itself where nothing was repaired.
        done: each repair in words.
        ops: the operations that the graph was compared with.
        found: what doesn't fit them still.
    """

    meta: MetaGraphDef
    done: tuple[str, ...]
    ops: OpSet
    found: Compatibility


def repair(meta: MetaGraphDef, config: RunConfig) -> Repaired:
    """Repair ``meta``, which isn't changed itself."""
    ops = merged(meta)
    found = compatibility(meta, ops)
    mended, done = _mended(meta, ops, found, config)
    if not done:
        return Repaired(meta, (), ops, found)
    ops = merged(mended)
    return Repaired(mended, done, ops, compatibility(mended, ops))


def _mended(
    meta: MetaGraphDef, ops: OpSet, found: Compatibility, config: RunConfig
) -> tuple[MetaGraphDef, tuple[str, ...]]:
    mended, done = mend(meta, ops, force=config.force, found=found)
    mended, modern = modernised(mended, ops)
    done = (*done, *modern)
    if config.load_op_library:
        return mended, done
    bypassed = [node.name for node in mended.graph_def.node if node.op in IDENTITIES]
    if not bypassed:
        return mended, done
    editor = Editor(mended)
    for name in bypassed:
        _bypass(editor, name)
    kinds = ", ".join(sorted({node.op for node in mended.graph_def.node if node.op in IDENTITIES}))
    return editor.meta, (
        *done,
        f"{len(bypassed)} operations ({kinds}) bypassed: the identity for a single process",
    )


def _bypass(editor: Editor, name: str) -> None:
    node = editor.node(name)
    inputs = [parse_tensor(text) for text in node.input if not text.startswith("^")]
    controls = [text[1:] for text in node.input if text.startswith("^")]
    editor.change_op(name, "Identity", inputs[:1], controls, {"T": attribute(node, "T")})
