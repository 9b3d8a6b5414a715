"""How is an edited graph put back to what it was?

Rule: the edited graph carries, as one text in the collection ``tfresume_surgery``, what the edits
changed and took away, and the names of what they added. Putting it back gives the graph of before
byte for byte, an earlier edit's record included. Plain TensorFlow imports the collection as text
that means nothing to it.
"""

from __future__ import annotations

import base64
import binascii
import zlib

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.errors import CorruptCheckpoint

COLLECTION = "tfresume_surgery"
_ADDED, _KEPT = "added", "collection/"


def with_undo(before: MetaGraphDef, after: MetaGraphDef) -> MetaGraphDef:
    """``after`` with the record that leads back to ``before``; a copy.

    Args:
        after: has the nodes of ``before`` in their order, changed or not, and then new ones.
    """
    record = MetaGraphDef()
    originals = {node.name: node for node in before.graph_def.node}
    added = record.collection_def[_ADDED].node_list.value
    for node in after.graph_def.node:
        original = originals.get(node.name)
        if original is None:
            added.append(node.name)
        elif original != node:
            record.graph_def.node.add().CopyFrom(original)
    record.saver_def.CopyFrom(before.saver_def)
    for key in before.collection_def.keys() | after.collection_def.keys():
        if key not in before.collection_def:
            record.collection_def[_KEPT + key].SetInParent()
        elif key not in after.collection_def or (
            before.collection_def[key] != after.collection_def[key]
        ):
            record.collection_def[_KEPT + key].CopyFrom(before.collection_def[key])
    if COLLECTION in before.collection_def:
        record.collection_def[_KEPT + COLLECTION].CopyFrom(before.collection_def[COLLECTION])
    told = MetaGraphDef()
    told.CopyFrom(after)
    told.collection_def[COLLECTION].Clear()
    packed = zlib.compress(record.SerializeToString(deterministic=True), 9)
    told.collection_def[COLLECTION].bytes_list.value.append(base64.b64encode(packed))
    return told


def without_edits(meta: MetaGraphDef) -> MetaGraphDef:
    """The graph as it was before the last run's edits; ``meta`` itself where there were none.

    Raises:
        CorruptCheckpoint: the record is damaged.
    """
    if COLLECTION not in meta.collection_def:
        return meta
    record = _record(meta)
    added = set(record.collection_def[_ADDED].node_list.value)
    originals = {node.name: node for node in record.graph_def.node}
    back = MetaGraphDef()
    back.CopyFrom(meta)
    del back.graph_def.node[:]
    for node in meta.graph_def.node:
        if node.name not in added:
            back.graph_def.node.add().CopyFrom(originals.get(node.name, node))
    if meta.HasField("saver_def"):
        back.saver_def.CopyFrom(record.saver_def)
    del back.collection_def[COLLECTION]
    for key, collection in record.collection_def.items():
        if not key.startswith(_KEPT):
            continue
        name = key.removeprefix(_KEPT)
        back.collection_def.pop(name, None)
        if collection.WhichOneof("kind") is not None:
            back.collection_def[name].CopyFrom(collection)
    return back


def _record(meta: MetaGraphDef) -> MetaGraphDef:
    values = meta.collection_def[COLLECTION].bytes_list.value
    try:
        return MetaGraphDef.FromString(zlib.decompress(base64.b64decode(values[0], validate=True)))
    except (IndexError, binascii.Error, zlib.error, DecodeError) as error:
        raise CorruptCheckpoint.from_cause(
            f"the graph's collection {COLLECTION}, which tells how to undo its edits, can't be read",
            error,
            remedy="Name the graph to train with --meta",
        ) from error
