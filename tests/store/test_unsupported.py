"""Is somebody who names what isn't a checkpoint told what it is, and what to do with it?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchestrator.store.checkpoints.unsupported import unsupported_directory, unsupported_file
from orchestrator.store.objects.location import FileInfo, Location, open_location

SAVE_AGAIN = (
    "Load it in the program that built the model, and save with "
    "tf.compat.v1.train.Saver().save(session, PREFIX), "
    "which writes PREFIX.meta, PREFIX.index and PREFIX.data-*"
)
ELSEWHERE = (
    "Name the directory that the training itself saved into (NAME-STEP.meta, .index, .data-*): "
    "what is made for serving has no training operations"
)
UNPACK = "Unpack it, and name the directory or the checkpoint's prefix in it"
PYTORCH = "tfresume continues TensorFlow 1 graphs; use PyTorch for this one"
NONE = "Give a .meta file, a checkpoint's prefix or a directory"


def _file(name: str, content: bytes) -> FileInfo:
    place = open_location("memory://unsupported").child(name)
    place.write_bytes(content)
    return FileInfo(name, place, len(content))


@pytest.mark.parametrize(
    ("name", "start", "what", "remedy"),
    [
        ("x.pb", b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it", SAVE_AGAIN),
        ("x.h5", b"\x80\x02", "a Python pickle, as PyTorch writes it", PYTORCH),
        ("x", b"\x1f\x8b", "a compressed archive", UNPACK),
        ("x", b"\x93NUMPY", "a NumPy array", SAVE_AGAIN),
        ("x.PT", b"PK\x03\x04", "PyTorch's", PYTORCH),
        ("x.pth", b"", "PyTorch's", PYTORCH),
        ("x.safetensors", b"8", "PyTorch's", PYTORCH),
        ("x.hdf5", b"", "a model of Keras", SAVE_AGAIN),
        ("x.keras", b"PK\x03\x04", "a model of Keras", SAVE_AGAIN),
        ("x.npz", b"PK\x03\x04", "NumPy arrays", SAVE_AGAIN),
        ("x.npy", b"", "NumPy arrays", SAVE_AGAIN),
        ("x.pbtxt", b"node {", "a graph for serving", ELSEWHERE),
        ("x.tflite", b"", "a graph for serving", ELSEWHERE),
        ("x.onnx", b"", "a graph for serving", ELSEWHERE),
        ("x.zip", b"PK\x03\x04", "an archive", UNPACK),
        ("x.tar", b"", "an archive", UNPACK),
        ("x.tgz", b"", "an archive", UNPACK),
        ("x", b"PK\x03\x04", "an archive, as PyTorch, Keras and NumPy write it too", UNPACK),
        ("x", b"", "a file, but not one of a checkpoint's", NONE),
        ("x.pt.txt", b" PK\x03\x04", "a file, but not one of a checkpoint's", NONE),
    ],
)
def test_file_is_told_by_its_first_bytes_and_else_by_its_ending(
    name: str, start: bytes, what: str, remedy: str
) -> None:
    error = unsupported_file(_file(name, start))
    assert error.message == (
        f"memory://unsupported/{name} is {what}: not a checkpoint of a TensorFlow 1 graph"
    )
    assert error.remedy == remedy


def test_of_a_file_its_first_bytes_are_read_and_of_an_empty_one_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be a model of many gigabytes, and there is no range of an empty object in HTTP."""
    asked: list[tuple[int | None, int | None]] = []

    def read(self: Location, start: int | None = None, end: int | None = None) -> bytes:
        asked.append((start, end))
        return b"\x89HDF\r\n\x1a\n"

    files = [_file("large", b"x" * 1000), _file("empty", b"")]
    monkeypatch.setattr(Location, "read_bytes", read)
    assert "HDF5" in unsupported_file(files[0]).message
    assert "not one of a checkpoint's" in unsupported_file(files[1]).message
    assert asked == [(0, 16)]


@pytest.mark.parametrize(
    ("names", "said", "remedy"),
    [
        (
            ["variables", "saved_model.pb", "x.h5"],
            "d is a SavedModel, which is made for serving: not a checkpoint of a TensorFlow 1 graph",
            ELSEWHERE,
        ),
        (
            ["saved_model.pbtxt"],
            "d is a SavedModel, which is made for serving: not a checkpoint of a TensorFlow 1 graph",
            ELSEWHERE,
        ),
        (
            ["b.onnx", "notes", "a.h5"],
            "d holds no checkpoint; a.h5 in it is a model of Keras",
            SAVE_AGAIN,
        ),
    ],
)
def test_directory_is_told_by_the_first_thing_in_it_that_is_known(
    names: Sequence[str], said: str, remedy: str
) -> None:
    error = unsupported_directory("d", [_file(name, b"") for name in names])
    assert error is not None
    assert (error.message, error.remedy) == (said, remedy)


def test_directory_of_what_nobody_knows_is_not_told_as_anything() -> None:
    assert unsupported_directory("d", [_file("notes", b"\x93NUMPY")]) is None
    assert unsupported_directory("d", []) is None
