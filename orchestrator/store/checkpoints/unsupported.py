"""What is it that was named as a source and isn't a checkpoint of a TensorFlow 1 graph?

Rule: a file is told by its first bytes, and by its ending only where those don't say; a directory
by the names in it. What can't be told is called a file that isn't a checkpoint's, never "missing".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from orchestrator.errors import SourceError
from orchestrator.store.objects.location import FileInfo

_SAVE_AGAIN = (
    "Load it in the program that built the model, and save with tf.compat.v1.train.Saver().save(session, PREFIX), "
    "which writes PREFIX.meta, PREFIX.index and PREFIX.data-*"
)
_ELSEWHERE = (
    "Name the directory that the training itself saved into (NAME-STEP.meta, .index, .data-*): "
    "what is made for serving has no training operations"
)
_UNPACK = "Unpack it, and name the directory or the checkpoint's prefix in it"


class OtherFormat(NamedTuple):
    """What something is, in words that follow "is", and what to do."""

    what: str
    remedy: str


_SAVED_MODEL = OtherFormat("a SavedModel, which is made for serving", _ELSEWHERE)
_PYTORCH = OtherFormat(
    "PyTorch's", "tfresume continues TensorFlow 1 graphs; use PyTorch for this one"
)
_BY_START = (
    (b"\x89HDF\r\n\x1a\n", OtherFormat("an HDF5 file, as Keras writes it", _SAVE_AGAIN)),
    (b"\x80\x02", OtherFormat("a Python pickle, as PyTorch writes it", _PYTORCH.remedy)),
    (b"\x1f\x8b", OtherFormat("a compressed archive", _UNPACK)),
    (b"\x93NUMPY", OtherFormat("a NumPy array", _SAVE_AGAIN)),
)
_BY_ENDING = {
    (".pt", ".pth", ".safetensors"): _PYTORCH,
    (".h5", ".hdf5", ".keras"): OtherFormat("a model of Keras", _SAVE_AGAIN),
    (".npz", ".npy"): OtherFormat("NumPy arrays", _SAVE_AGAIN),
    (".pb", ".pbtxt", ".tflite", ".onnx"): OtherFormat("a graph for serving", _ELSEWHERE),
    (".zip", ".tar", ".tgz"): OtherFormat("an archive", _UNPACK),
}
_ZIP = b"PK\x03\x04"


def unsupported_file(file: FileInfo) -> SourceError:
    """The error for a file that is there and isn't a checkpoint's. Raises SourceError,
    StorageUnavailable where it can't be read.
    """
    start = file.location.read_bytes(0, 16) if file.size_bytes else b""
    other = next(
        (known for sign, known in _BY_START if start.startswith(sign)), None
    ) or _by_ending(file.name)
    if other is None and start.startswith(_ZIP):
        other = OtherFormat("an archive, as PyTorch, Keras and NumPy write it too", _UNPACK)
    if other is None:
        other = OtherFormat(
            "a file, but not one of a checkpoint's",
            "Give a .meta file, a checkpoint's prefix or a directory",
        )
    return _error(file.location.shown, other)


def unsupported_directory(shown: str, entries: Iterable[FileInfo]) -> SourceError | None:
    """The error for a directory that holds something else; None where nothing in it is known."""
    names = sorted(entry.name for entry in entries)
    if "saved_model.pb" in names or "saved_model.pbtxt" in names:
        return _error(shown, _SAVED_MODEL)
    for name in names:
        other = _by_ending(name)
        if other is not None:
            return SourceError(
                f"{shown} holds no checkpoint; {name} in it is {other.what}",
                remedy=other.remedy,
            )
    return None


def _by_ending(name: str) -> OtherFormat | None:
    return next(
        (known for endings, known in _BY_ENDING.items() if name.lower().endswith(endings)), None
    )


def _error(shown: str, other: OtherFormat) -> SourceError:
    return SourceError(
        f"{shown} is {other.what}: not a checkpoint of a TensorFlow 1 graph",
        remedy=other.remedy,
    )
