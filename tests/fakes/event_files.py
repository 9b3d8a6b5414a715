"""What TensorBoard's own reader of records finds in event files, without TensorFlow."""

from __future__ import annotations

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.errors import OutOfRangeError
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

from orchestrator.store.objects.location import Location


def events_in(directory: Location) -> list[Event]:
    """Every event of a directory's files, in the order of their names."""
    found: list[Event] = []
    for file in directory.list():
        if file.is_directory:
            continue
        reader = PyRecordReader_New(file.location.path)
        while True:
            try:
                reader.GetNext()
            except OutOfRangeError:
                break
            found.append(Event.FromString(reader.record()))
    return found
