"""Does the installed TensorFlow accept the versions that a graph names?

Rule: TensorFlow compares numbers that say who wrote the graph (``producer``), who may read it
(``min_consumer``, ``bad_consumers``) and, from the version text, whether variables carry a
``trainable`` flag. A graph whose every operation is known needs no reader newer than the installed
one, whatever ``min_consumer`` says; a text that isn't a version is replaced by the number in front
of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from packaging.version import InvalidVersion, Version
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.graph.graphdef.opset import OpSet


def mend_versions(meta: MetaGraphDef, ops: OpSet, *, all_known: bool) -> list[str]:
    """Change ``meta`` in place so that its versions are accepted, where that is right; each change
    in words.
    """
    done: list[str] = []
    versions = meta.graph_def.versions
    if too_new(meta, ops) and all_known:
        done.append(f"min_consumer {versions.min_consumer} lowered to 0 and bad_consumers cleared")
        versions.min_consumer = 0
        del versions.bad_consumers[:]
    text = meta.meta_info_def.tensorflow_version
    if text and not is_version(text):
        meta.meta_info_def.tensorflow_version = readable_version(text)
        done.append(
            f"tensorflow_version {text!r} changed to {meta.meta_info_def.tensorflow_version!r}"
        )
    return done


def too_new(meta: MetaGraphDef, ops: OpSet) -> bool:
    """Whether the graph refuses the installed TensorFlow as its reader."""
    versions = meta.graph_def.versions
    bad: Sequence[int] = versions.bad_consumers
    return bool(versions.min_consumer > ops.graph_def_version) or ops.graph_def_version in bad


def is_version(text: str) -> bool:
    """Whether TensorFlow's import can parse ``text`` as a version."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def readable_version(text: str) -> str:
    """The version in front of ``text`` (``1.4.0`` of ``1.4.0-custom_build``), ``""`` where there is
    none.
    """
    match = re.match(r"\s*v?(\d{1,9}(?:\.\d{1,9}){0,3})", text, re.ASCII)
    return match.group(1) if match else ""
