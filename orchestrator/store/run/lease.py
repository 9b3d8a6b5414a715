"""Which driver may write manifests and the pointer of this output?

Rule: attempt N holds the run by having created ``lease/N``; the object is created once and never
changed, and whoever creates ``N+1`` has taken over. Whether a holder lives is judged by its
heartbeat object (``decide/holding``). A holder that finds ``N+1``, or another writer's token in
``N`` itself (the store ignored the condition of an exclusive create), has lost it; one whose own
heartbeats haven't reached the store for a lease's length commits nothing until one does and it
finds neither.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.decide.holding import Hold, Sight, Watch, fresh, look
from orchestrator.errors import AlreadyExists, LeaseLost, OutputError
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.processes import is_gone, start_ticks, this_machine, this_user
from orchestrator.store.objects.records import encode, read_record
from orchestrator.store.run.holder import LEASE_S, Holder
from orchestrator.vocabulary import Attempt

BEATS_PER_LEASE = 6
"""Heartbeats within one lease: five may be lost or late before a living holder looks dead."""


@dataclass
class Lease:
    """A hold on an output. Methods may be called from any thread.

    Attributes:
        attempt: this driver's number.
        holder: what the lease object says.
        taken_from: the holder before, None for the first.
    """

    output: Location
    attempt: Attempt
    holder: Holder
    taken_from: Holder | None = None
    now: Callable[[], float] = time.monotonic
    _beats: int = 0
    _last_beat_s: float = 0.0
    _lost: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def beat_every_s(self) -> float:
        """How often ``heartbeat`` wants to be called."""
        return self.holder.lease_s / BEATS_PER_LEASE

    def heartbeat(self) -> None:
        """Tells the others that we live. Raises LeaseLost, OutputError, StorageUnavailable (try
        again).
        """
        begun_s = self.now()
        # A third for each of three requests: what takes longer comes too late to keep the lease
        patience_s = self.holder.lease_s / 3
        self._look_for_others(patience_s)
        with self._lock:
            self._beats += 1
            beat = f"{self.holder.writer} {self._beats}\n".encode()
        _paths(self.output, self.attempt).heartbeat.hurried(patience_s).write_bytes(beat)
        if not self.is_fresh:
            # It came after a lease's silence: somebody may have taken over since we looked, and
            # won't see it any more
            self._look_for_others(patience_s)
        with self._lock:
            # From its beginning on: that's the latest moment from which the others may have begun
            # to count
            self._last_beat_s = max(self._last_beat_s, begun_s)

    def check(self) -> None:
        """Raises LeaseLost where the run isn't ours any more; asks the store. Raises
        StorageUnavailable where it can't tell.
        """
        self._look_for_others(self.holder.lease_s / 3)

    @property
    def is_fresh(self) -> bool:
        """Whether our last confirmed heartbeat is young enough that nobody can have taken over;
        asks nobody.
        """
        return not self._lost and fresh(self._last_beat_s, self.holder.lease_s, self.now())

    def confirm(self) -> None:
        """Returns at a moment at which nobody can have taken over; asks the store only where too
        much time has passed since our last heartbeat. Raises LeaseLost, OutputError,
        StorageUnavailable.
        """
        # Again where this process slept while the store answered: that answer is old
        while not self.is_fresh:
            self.heartbeat()

    def release(self) -> None:
        """Gives the run up, so that the next driver needn't wait. Calling it again is allowed; what
        a rival holds isn't given up.
        """
        if self._rival(self.holder.lease_s / 3):
            return
        create_once(_paths(self.output, self.attempt).released, f"{self.holder.writer}\n".encode())

    def _look_for_others(self, patience_s: float) -> None:
        if not self._lost:
            self._lost = self._successor(patience_s) or self._rival(patience_s)
        if self._lost:
            raise LeaseLost(
                self._lost,
                remedy="Nothing to do: the other driver goes on. This one stops without writing",
            )

    def _successor(self, patience_s: float) -> str:
        record = read_record(
            Holder, _paths(self.output, self.attempt + 1).lease.hurried(patience_s, 2)
        )
        if record is None:
            return ""
        return f"attempt {record.attempt} ({record.name}) has taken this run over from attempt {self.attempt}"

    def _rival(self, patience_s: float) -> str:
        # Where the store ignores If-None-Match, the last of two creates stands: whose token that
        # isn't has lost, so one stays
        record = read_record(Holder, _paths(self.output, self.attempt).lease.hurried(patience_s, 2))
        if record is None or record.writer == self.holder.writer:
            return ""
        return (
            f"{record.name} has taken attempt {self.attempt} of this run too, since the store doesn't enforce exclusive creates; "
            "its lease is the one that stands"
        )


@dataclass(frozen=True)
class _Paths:
    lease: Location
    heartbeat: Location
    released: Location


def _paths(output: Location, attempt: int) -> _Paths:
    directory = output.child(CONTROL, "lease")
    return _Paths(
        *(directory.child(f"{attempt:04d}.{kind}") for kind in ("json", "heartbeat", "released"))
    )


@dataclass(frozen=True)
class Observed:
    """The newest lease of an output, and what is known of its holder.

    Attributes:
        holder: None where nobody ever held it.
        released: given up; nobody holds it now.
        dead: its process was one of this machine and is gone.
        beaten: unix seconds of the last heartbeat by the store's clock, for people alone; None where
            there is none.
    """

    holder: Holder | None
    released: bool
    dead: bool
    beat: bytes
    beaten: float | None = None

    @property
    def sight(self) -> Sight:
        """What the decision needs of it."""
        if self.holder is None:
            return Sight()
        return Sight(self.holder.attempt, self.released, self.dead, self.beat, self.holder.lease_s)


NOBODY = Observed(None, released=False, dead=False, beat=b"")
"""Nobody has ever held the output."""


def observe(output: Location) -> Observed:
    """The newest lease as it stands: one listing and up to two reads. Raises OutputError,
    StorageUnavailable.
    """
    names = {entry.name: entry for entry in output.child(CONTROL, "lease").list()}
    numbers = [
        int(name.removesuffix(".json"))
        for name in names
        if name.endswith(".json") and name.removesuffix(".json").isdigit()
    ]
    if not numbers:
        return NOBODY
    paths = _paths(output, max(numbers))
    holder = read_record(Holder, paths.lease)
    if holder is None:
        raise OutputError(
            f"{paths.lease.shown} vanished while it was read",
            remedy="Leave _tfresume/ alone and run the command again",
        )
    beating = names.get(paths.heartbeat.name)
    return Observed(
        holder,
        paths.released.name in names,
        is_gone(holder.machine, holder.pid, holder.start_ticks),
        b"" if beating is None else paths.heartbeat.read_if_exists() or b"",
        None if beating is None else beating.modified,
    )


def looked(
    output: Location, watch: Watch | None, now: Callable[[], float]
) -> tuple[Observed, Hold, Watch]:
    """One more look at the newest lease, and what follows from it. Raises what ``observe`` does.

    A holder's silence is counted from the end of one look to the beginning of another: a process
    that slept within one has heard nothing meanwhile, whatever its clock says. Who slept for a lease
    after what it saw looks again before it acts on it, since the holder may have woken up as well.
    """
    asked_s = now()
    observed = observe(output)
    hold, seen = look(watch, observed.sight, asked_s)
    if seen is not watch:
        return observed, hold, Watch(seen.sight, now())
    slept = now() - asked_s >= observed.sight.lease_s
    return observed, Hold.WAIT if slept else hold, seen


def acquire(
    output: Location,
    name: str | None = None,
    *,
    lease_s: float = LEASE_S,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Lease:
    """Takes the run: at once where it's free, after ``lease_s`` of silence where its holder seems
    gone.

    Args:
        name: what people should read about this holder; user, host and process by default.
        lease_s: how long we promise to be silent at most.
        now, wait: the clock, for tests.

    Raises:
        OutputError: someone holds it and lives; names the holder and when its lease would expire.
        StorageUnavailable: the store doesn't answer.
    """
    watch: Watch | None = None
    while True:
        observed, hold, watch = looked(output, watch, now)
        if hold is Hold.REFUSE:
            raise _held(output, observed)
        if hold is Hold.WAIT:
            # Twice as often as a living holder beats, so that its first beat is seen soon
            wait(observed.sight.lease_s / BEATS_PER_LEASE / 2)
            continue
        try:
            return _take(output, observed, name, lease_s, now)
        except AlreadyExists:
            continue  # someone was faster: look at the new holder


def _take(
    output: Location, observed: Observed, name: str | None, lease_s: float, now: Callable[[], float]
) -> Lease:
    attempt = Attempt((observed.holder.attempt if observed.holder else 0) + 1)
    holder = Holder(
        attempt=attempt,
        name=name or f"{this_user()}@{socket.gethostname()} pid {os.getpid()}",
        writer=uuid.uuid4().hex,
        machine=this_machine(),
        pid=os.getpid(),
        start_ticks=start_ticks(os.getpid()) or 0,
        lease_s=lease_s,
        since=time.time(),
    )
    begun_s = now()
    create_once(_paths(output, attempt).lease, encode(holder))
    lease = Lease(output, attempt, holder, observed.holder, now, _last_beat_s=begun_s)
    lease.heartbeat()
    return lease


def _held(output: Location, observed: Observed) -> OutputError:
    holder = observed.holder
    assert holder is not None, "only a held output is refused"
    return OutputError(
        f"{output.shown} is held by attempt {holder.attempt}, {holder.name}, whose heartbeat is alive "
        f"(its lease expires {holder.lease_s:g} s after the last one)",
        remedy="Wait for it, stop it with `tfresume stop`, or use another --output",
        details={"holder": holder.name, "attempt": holder.attempt, "expires_s": holder.lease_s},
    )
