"""How do a run's curves reach TensorBoard?

Rule: event files are written without TensorFlow and in parts: an object store can't append, so each
part is a whole file, created once and never touched again, and TensorBoard reads the parts of a
directory one after the other. A thread of its own uploads; a store that refuses costs points, never
a step.

Point TensorBoard at ``OUTPUT/_tfresume/events``.
"""

from __future__ import annotations

import logging
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from orchestrator.driver.observer import RunProgress
from orchestrator.errors import OrchestratorError
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import Location

log = logging.getLogger("tfresume")

POINT_S = 1.0
"""Least time between two points of a curve."""
SHORTEST_PART_S, LONGEST_PART_S = 20.0, 600.0
"""A part covers a tenth of the run so far within these bounds: quick to look at in the beginning, a
thousand files in a week.
"""
CLOSE_S = 30.0
"""Longest wait for the last part to be written: some requests of a store that is slow. The curves
lack their last points otherwise, and nothing else.
"""


def scalars(progress: RunProgress, told: Mapping[str, float]) -> dict[str, float]:
    """Tag to value: the graph's own scalar summaries under their own tags, ours under
    ``tfresume/``, watched tensors by name.

    Args:
        told: the summaries that were written last. Workers compute them only now and then, and
            progress repeats the last ones until then: a curve gets a point when there is a new
            value.
    """
    found: dict[str, float] = {
        "tfresume/steps_per_s": progress.steps_per_s,
        "tfresume/world_size": float(progress.world_size),
    }
    if progress.loss is not None:
        found["tfresume/loss"] = progress.loss
    found |= {f"tfresume/watch/{name}": value for name, value in progress.values.items()}
    return found if progress.summaries == told else found | dict(progress.summaries)


def part_s(elapsed_s: float) -> float:
    """How long the part that begins now should be."""
    return min(LONGEST_PART_S, max(SHORTEST_PART_S, elapsed_s / 10))


def encoded(events: list[tuple[float, int, Mapping[str, float]]], begun: float) -> bytes:
    """One event file.

    Args:
        events: (unix seconds, global step, tag to value) of each.
        begun: unix seconds of the file's version record.
    """
    records = [Event(wall_time=begun, file_version="brain.Event:2")]
    for at, step, values in events:
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        records.append(Event(wall_time=at, step=step, summary=summary))
    return b"".join(_record(event.SerializeToString()) for event in records)


def _record(data: bytes) -> bytes:
    """A TFRecord: length, its checksum, data, its checksum. TensorBoard's own writer imports half a
    second's worth of other things.
    """
    length = struct.pack("<Q", len(data))
    return length + _masked_crc(length) + data + _masked_crc(data)


def _masked_crc(data: bytes) -> bytes:
    """crc32c as TFRecord files have it: rotated and shifted, so that checksums of checksums stay
    good ones.
    """
    crc = int(google_crc32c.value(data))
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


class EventWriter:
    """An observer that writes TensorBoard event files below the output. Nothing is written before
    the run's first progress.

    Args:
        clock, wall: monotonic and unix seconds, for tests.
    """

    def __init__(
        self,
        output: Location,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory = output.child(CONTROL, "events")
        self._clock, self._wall = clock, wall
        self._attempt, self._part = 0, 0
        self._events: list[tuple[float, int, Mapping[str, float]]] = []
        self._began_s = self._part_s = self._point_s = float("-inf")
        self._step = -1
        self._told: Mapping[str, float] = {}
        self._uploads: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def event(self, event: Mapping[str, Any]) -> None:
        """Learns the attempt's number, which is part of every file's name."""
        self._attempt = int(event.get("attempt") or self._attempt)

    def progress(self, progress: RunProgress) -> None:
        """One point on every curve, at most one a second."""
        now_s = self._clock()
        if self._began_s == float("-inf"):
            self._began_s = self._part_s = now_s
        if progress.step == self._step or (
            now_s - self._point_s < POINT_S and progress.step < progress.until
        ):
            return
        self._point_s, self._step = now_s, progress.step
        self._events.append((self._wall(), progress.step, scalars(progress, self._told)))
        self._told = progress.summaries
        if now_s - self._part_s >= part_s(self._part_s - self._began_s):
            self._seal()
            self._part_s = now_s

    def close(self) -> None:
        """Writes what is left and waits for the uploads, for at most half a minute."""
        self._seal()
        if self._thread is not None:
            self._uploads.put(None)
            self._thread.join(CLOSE_S)

    def _seal(self) -> None:
        if not self._events:
            return
        begun = self._events[0][0]
        # TensorBoard reads the files of a directory in the order of their names
        name = f"events.out.tfevents.{int(begun):010d}.{socket.gethostname()}.a{self._attempt:04d}-{self._part:06d}"
        self._uploads.put((name, encoded(self._events, begun)))
        self._events, self._part = [], self._part + 1
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._upload, name="tfresume-events", daemon=True
            )
            self._thread.start()

    def _upload(self) -> None:
        while (item := self._uploads.get()) is not None:
            name, data = item
            try:
                create_once(self._directory.child(name), data)
            except OrchestratorError as error:
                log.warning("TensorBoard events of %d bytes aren't written: %s", len(data), error)
