"""Which bytes of a file does a stream fetch next, and how many streams are worth while?

Rule: pure bookkeeping, no clock and no socket. Streams share a file out among themselves: whoever
is done takes over the second half of what the slowest has left. A file is begun with one stream,
and their number doubles as long as the whole gets faster by it: a store far away gives each
connection its share, one on this machine or a gateway that reads the object anew for each range
gets slower.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass
class Segment:
    """What one stream fetches: from ``position`` on, up to ``end``, which comes nearer when another
    takes half of it.

    Attributes:
        flowing: bytes have come.
    """

    position: int
    end: int
    flowing: bool = False


class Segments:
    """A file of ``size_bytes``, shared out. Safe for threads.

    Args:
        cut_bytes: no segment is longer than this.
        smallest_bytes: nothing shorter than twice this is divided.
    """

    def __init__(self, size_bytes: int, cut_bytes: int, smallest_bytes: int) -> None:
        self._smallest = smallest_bytes
        self._lock = threading.Lock()
        self._idle = [
            Segment(start, min(start + cut_bytes, size_bytes))
            for start in range(0, size_bytes, cut_bytes)
        ][::-1]
        self._open: list[Segment] = []
        self._come_bytes = 0

    def take(self) -> Segment | None:
        """Something to fetch: what nobody has begun, else half of what has the most left; None
        where nothing is worth it.
        """
        with self._lock:
            segment = self._idle.pop() if self._idle else self._half()
            if segment is not None:
                self._open.append(segment)
            return segment

    def _half(self) -> Segment | None:
        longest = max(self._open, key=lambda one: one.end - one.position, default=None)
        if longest is None or longest.end - longest.position < 2 * self._smallest:
            return None
        middle = (longest.position + longest.end + 1) // 2
        half = Segment(middle, longest.end)
        longest.end = middle
        return half

    def came(self, segment: Segment, count: int) -> int:
        """``count`` more bytes have come; how many of them are still this segment's, to be put in
        their place.

        Bytes beyond an end that has moved are another stream's, and nobody writes where another
        does.
        """
        with self._lock:
            own = min(count, segment.end - segment.position)
            segment.position += own
            segment.flowing = True
            self._come_bytes += own
            return own

    def done(self, segment: Segment) -> None:
        """All of a segment is there."""
        with self._lock:
            self._open.remove(segment)

    @property
    def come_bytes(self) -> int:
        """Bytes of the file that are there."""
        return self._come_bytes

    @property
    def flowing(self) -> bool:
        """Whether bytes have come for everything that was begun."""
        with self._lock:
            return all(segment.flowing for segment in self._open)


WINDOW_S = 0.1
"""The rate of so many streams is measured for so long."""
GAIN = 1.2
"""Twice as many streams have to be faster by this, or there will be no more."""
WORTH = 3.0
"""Another stream is worth while where what's left takes this many times as long as the first one
waited for its first byte. A store that reads an object anew for each range lets wait long, and gets
slower by every stream.
"""


class Ramp:
    """How many streams to have; kept from one file to the next of the same store.

    Attributes:
        streams: how many there should be now.
        most: how many there will ever be.
    """

    def __init__(self, most: int, streams: int = 1) -> None:
        self.streams, self.most = streams, most
        self._grows = streams < most
        self._before: float | None = None
        self._began: tuple[float, int] | None = None

    def look(
        self, now_s: float, come_bytes: int, left_bytes: int, *, waited_s: float, flowing: bool
    ) -> None:
        """Judge by what has come so far.

        Args:
            come_bytes, left_bytes: of the file.
            waited_s: how long the file's first byte took to come.
            flowing: bytes have come on every stream.
        """
        if not (self._grows and flowing):
            self._began = None
            return
        if self._began is None or come_bytes < self._began[1]:  # another file
            self._began = now_s, come_bytes
        took_s = now_s - self._began[0]
        if took_s < WINDOW_S:
            return
        rate = (come_bytes - self._began[1]) / took_s
        self._began = None
        if self._before is not None and rate < self._before * GAIN:
            self._grows = False
        elif rate <= 0 or left_bytes / rate > WORTH * waited_s:
            self._before = rate
            self.streams = min(self.most, 2 * self.streams)
            self._grows = self.streams < self.most
