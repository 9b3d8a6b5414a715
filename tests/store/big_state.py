"""What does a large state take in memory, disk, network and seconds, at save, restore and hand-over?

Rule: a count of what the code does with each byte, with the code's own constants; the test beside it
holds the counts against what the kernel counted for a small state. The seconds are arithmetic on
rates that are said. ``python -m tests.store.big_state`` writes the tables of docs/scale.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from orchestrator.store.transfer.multipart import IN_FLIGHT_BYTES, part_bytes

GB = 10**9


@dataclass(frozen=True)
class Rates:
    """Bytes in a second."""

    copy: float = 8 * GB
    """From memory to memory, one thread."""
    looks: float = 1.5 * GB
    """All that the writer does with a byte before it goes up, one thread: the ranks' comparison, NaN,
    sizes, and the checksums of tensors and files. Measured: 10, 19, 2.9 and 7.9 GB/s, 1.6 together.
    """
    compared: float = 10 * GB
    """Of ``looks`` the ranks' comparison, which each makes of all that they hold alike."""
    disk: float = 1 * GB
    """Of a node, reading or writing."""
    store: float = 1 * GB
    """One worker to or from the store."""
    network: float = 3.1 * GB
    """Between nodes: 25 Gbit/s."""


@dataclass(frozen=True)
class Cost:
    """What one thing takes.

    Attributes:
        memory: bytes of host memory beside the variables themselves, on the worker that has most.
        kept: how much of it stays afterwards.
        disk: bytes that are on the node's disk at a time.
        written, read: bytes that go to that disk and come from it.
        network: bytes over the network, of one worker or node.
        still_s: for how long training stands still.
        seconds: until it's done.
    """

    memory: float
    kept: float
    disk: float
    written: float
    read: float
    network: float
    still_s: float
    seconds: float


REQUEST_COPIES = 2
"""Of each part that is in flight: what waits for the socket beside it. Of gcsfs it's four, and fewer
parts are in flight.
"""


def save(size: float, rates: Rates, local: bool = False, ranks: int = 1) -> Cost:
    """By each of the ranks that write a part; others only copy and compare.

    Args:
        local: the output is a disk of this node.
        ranks: how many write, each on a node of its own.
    """
    own = size / ranks
    still_s = size / rates.copy
    compared_s = size / rates.compared
    looked_s = own / rates.looks - own / rates.compared
    sent_s = own / (rates.disk if local else rates.store)
    in_flight = 0 if local else min(own, IN_FLIGHT_BYTES) * REQUEST_COPIES
    on_disk = own if local else 0
    return Cost(
        memory=size + in_flight,
        kept=size,
        disk=on_disk,
        written=on_disk,
        read=0,
        network=0 if local else own,
        still_s=still_s,
        seconds=still_s + compared_s + looked_s + sent_s,
    )


def restore(size: float, rates: Rates, cached: bool = False) -> Cost:
    """By each node: it's fetched once for all workers of a node, onto its disk, and read from there.

    Args:
        cached: the node has it already.
    """
    came = 0 if cached else size
    seconds = came / min(rates.store, rates.disk) + size / rates.disk
    seconds += size / rates.copy
    return Cost(size, 0, size, came, size, came, seconds, seconds)


def hand_over(size: float, rates: Rates) -> Cost:
    """From a member that has the state to a newcomer on another node, through Ray's object store: a
    copy out of the variables, one into the store, one over the network, one into the variables.
    """
    seconds = 3 * size / rates.copy + size / rates.network
    return Cost(2 * size, 0, 0, 0, 0, size, seconds, seconds)


def parts(size: int) -> tuple[int, int]:
    """How many parts a file of this size goes up in, and how many of them are in flight."""
    part = part_bytes(size)
    return -(-size // part), max(1, IN_FLIGHT_BYTES // part)


def table(size: float, rates: Rates | None = None) -> str:
    """A table of docs/scale.md."""
    rates = rates or Rates()
    rows = {
        "save into a store": save(size, rates),
        "save into a store, by eight": save(size, rates, ranks=8),
        "save onto the node's disk": save(size, rates, local=True),
        "restore": restore(size, rates),
        "restore, the node has it": restore(size, rates, cached=True),
        "hand-over": hand_over(size, rates),
    }
    head = (
        f"| {size / GB:g} GB of state | memory beside the variables, GB | of it kept | on disk, GB |"
        " written, GB | read, GB | network, GB | training stands still, s | done after, s |"
    )
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, cost in rows.items():
        sizes = (cost.memory, cost.kept, cost.disk, cost.written, cost.read, cost.network)
        told = [f"{value / GB:.3g}" for value in sizes]
        told += [f"{value:.3g}" for value in (cost.still_s, cost.seconds)]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write("\n\n".join(table(size * GB) for size in (4, 50, 100)) + "\n")
