"""How far is each member when a group forms, and which result has one to hand to another?

Rule: a run of a train operation needs every rank's contribution, so survivors are at most one run
apart: who has applied a run keeps its result until the next, and who was cut off before he had it
takes it from there, instead of the whole state. After that the slots of the run that all take next
are dealt: whoever kept something contributes that, and only what nobody has is computed again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np

from orchestrator.errors import CorruptState, PeerLost

Place = tuple[int, int]
"""A run: batches that the whole group had consumed before its step, and its number in the step's
cycle.
"""


@dataclass(frozen=True)
class Standing:
    """What a member has.

    Attributes:
        done: the last run that it applied, as long as it can give its result.
        tried: the run that it computed and didn't apply.
    """

    done: Place | None
    tried: Place | None

    def packed(self) -> bytes:
        """The message."""
        return json.dumps([self.done, self.tried]).encode()

    @classmethod
    def parse(cls, message: bytes | memoryview, rank: int) -> Standing:
        """What ``rank`` has said. Raises PeerLost where that is nonsense."""
        try:
            done, tried = json.loads(bytes(message))
            return cls(_place(done), _place(tried))
        except (ValueError, TypeError) as error:
            raise nonsense(rank, str(error)) from error


@dataclass(frozen=True)
class Handing:
    """A result that some members lack.

    Attributes:
        place: of which run.
        giver: the rank that gives it.
        takers: the ranks that lack it.
    """

    place: Place
    giver: int
    takers: tuple[int, ...]


def handing(standings: Sequence[Standing]) -> Handing | None:
    """The result that is to be handed on, by rank; None where nobody lacks one that somebody has."""
    givers = {
        standing.done: rank
        for rank, standing in reversed(list(enumerate(standings)))
        if standing.done is not None
    }
    takers = [rank for rank, standing in enumerate(standings) if standing.tried in givers]
    if not takers:
        return None
    place = standings[takers[0]].tried
    assert place is not None
    # Two different runs can't both be lacked: no rank could have contributed to the later one
    return Handing(
        place, givers[place], tuple(rank for rank in takers if standings[rank].tried == place)
    )


def pack_result(result: Mapping[str, np.ndarray]) -> bytes:
    """What a run was fed at its seams, as a message with its crc32c."""
    told = [[name, array.dtype.name, list(array.shape)] for name, array in result.items()]
    header = json.dumps(told).encode()
    parts = [
        len(header).to_bytes(8, "little"),
        header,
        *(np.ascontiguousarray(each).tobytes() for each in result.values()),
    ]
    body = b"".join(parts)
    return int(google_crc32c.value(body)).to_bytes(4, "little") + body


def unpack_result(message: bytes | memoryview, rank: int) -> dict[str, np.ndarray]:
    """What ``pack_result`` was given.

    Raises:
        CorruptState: it arrived damaged.
        PeerLost: it isn't a result.
    """
    whole = bytes(message)
    if google_crc32c.value(whole[4:]) != int.from_bytes(whole[:4], "little"):
        raise CorruptState(
            f"the step's result that came from rank {rank} arrived damaged",
            remedy="Nothing: the group is formed anew; where it happens again, look at the machine's memory and network",
            details={"rank": rank},
        )
    length = int.from_bytes(whole[4:12], "little")
    offset, found = 12 + length, {}
    try:
        for name, dtype, shape in json.loads(whole[12:offset]):
            kind, count = np.dtype(dtype), int(np.prod(shape, dtype=np.int64))
            found[str(name)] = np.frombuffer(whole, kind, count, offset).reshape(shape)
            offset += count * kind.itemsize
    except (ValueError, TypeError) as error:
        raise nonsense(rank, str(error)) from error
    return found


def first_owners(
    messages: Sequence[bytes | memoryview], place: Place, served: Sequence[frozenset[int]]
) -> list[frozenset[int]]:
    """By rank, the slots that it contributes to the first run after a break.

    Args:
        messages: ``slots_kept`` of every rank.
        served: by rank, the slots whose batches it serves.

    Raises:
        PeerLost: a rank is to take another run next.
    """
    taken: set[int] = set()
    dealt: list[set[int]] = []
    for rank, message in enumerate(messages):
        # Where two have kept the same slot the lower rank brings all that it kept, and the other
        # nothing: of a sum that is made only all can be brought
        theirs = _slots_kept(message, place, rank)
        dealt.append(set() if taken & theirs else theirs)
        taken |= dealt[-1]
    for mine, serves in zip(dealt, served, strict=True):
        mine |= serves - taken
    return [frozenset(mine) for mine in dealt]


def slots_kept(place: Place, slots: Sequence[int]) -> bytes:
    """The message that tells which slots of the run at ``place`` a rank has computed already."""
    return json.dumps([*place, sorted(slots)]).encode()


def nonsense(rank: int, why: str) -> PeerLost:
    """The error for a peer whose message can't be understood."""
    return PeerLost(
        f"rank {rank} answered nonsense: {why}", remedy="Form a new group", details={"rank": rank}
    )


def _slots_kept(message: bytes | memoryview, place: Place, rank: int) -> set[int]:
    try:
        position, phase, slots = json.loads(bytes(message))
        theirs = {int(slot) for slot in slots}
    except (ValueError, TypeError) as error:
        raise nonsense(rank, str(error)) from error
    if (position, phase) != place:
        raise PeerLost(
            f"rank {rank} is at batch {position}, run {phase} of its cycle, this one at batch {place[0]}, run {place[1]}",
            remedy="Form a new group from one state",
            details={"rank": rank},
        )
    return theirs


def _place(told: Any) -> Place | None:
    if told is None:
        return None
    position, phase = told
    return int(position), int(phase)
