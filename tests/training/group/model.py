"""What does a sum in two levels cost on more workers than this machine can run?

Rule: pure arithmetic over the shape of the group. Messages and bytes are held by a test against
counted traffic of small groups; seconds follow from them and from the assumptions in ``Machine``.
``python -m tests.training.group.model`` prints the table of ``docs/exchange-at-scale.md``.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from orchestrator.training.group.agreement import HEADER
from orchestrator.training.group.over_memory import STAGING_BYTES
from orchestrator.training.group.summation import nodes_of

MB = 10**6


@dataclass(frozen=True)
class Machine:
    """What a host and the network between hosts can do.

    Attributes:
        network_bytes_s: of a host's network card, in each direction.
        latency_s: from a send to its arrival.
        message_s: a processor's time for a message, both ends together.
        memory_bytes_s: of a host's memory, read and written together.
    """

    network_bytes_s: float = 25e9 / 8
    latency_s: float = 50e-6
    message_s: float = 10e-6
    memory_bytes_s: float = 40e9


@dataclass(frozen=True)
class Shape:
    """A group of ``hosts`` hosts with ``each`` members, one slot each; ranks are dealt to the hosts
    in turns.

    Attributes:
        gradient_bytes: of one sum.
        staging_bytes: of a member's staging area.
    """

    hosts: int
    each: int
    gradient_bytes: int
    staging_bytes: int = STAGING_BYTES

    @property
    def workers(self) -> int:
        return self.hosts * self.each

    @property
    def connections(self) -> int:
        """Of one member to peers."""
        return self.each - 1 + self.hosts - 1

    @property
    def blocks(self) -> int:
        block_bytes = self.staging_bytes if self.hosts > 1 else self.staging_bytes // 2
        return math.ceil(self.gradient_bytes / block_bytes)

    @property
    def sums_of_host(self) -> int:
        """How many sums a host has left after adding what the tree lets it add alone: one where
        hosts are a power of two.
        """
        return len(nodes_of(self.workers, frozenset(range(0, self.workers, self.hosts))))

    @property
    def messages(self) -> int:
        """Of one member to other hosts: a record, a part of each block together with the sum of the
        block before, and a last sum.
        """
        return (self.hosts - 1) * (1 + self.blocks + 1)

    @property
    def meetings(self) -> int:
        """Of a host's members, each of whom rings all others: one a block, and one when all is
        whole.
        """
        return self.blocks + 1

    @property
    def bytes_of_all(self) -> int:
        """Between hosts, of all members together."""
        records = 2 * HEADER.size * self.workers * (self.hosts - 1)
        return self.gradient_bytes * (self.hosts - 1) * (self.sums_of_host + 1) + records

    @property
    def flat_bytes_of_all(self) -> int:
        """Between hosts, were every member connected with every other one and nothing added within
        a host.
        """
        return 2 * self.gradient_bytes * (self.workers - self.each)

    def seconds(self, machine: Machine) -> float:
        """Of a sum: memory and network one after the other, though they overlap in part."""
        # Filled (read, written) and added (read) by each; other hosts' parts and the result
        # (written, read)
        passes = 3 * self.each + 2 * self.sums_of_host + 2
        memory_s = passes * self.gradient_bytes / machine.memory_bytes_s
        if self.hosts == 1:
            return memory_s
        waits_s = (self.blocks + 2) * machine.latency_s + self.messages * machine.message_s
        return memory_s + waits_s + self.bytes_of_all / self.hosts / machine.network_bytes_s


SHAPES = (
    (1, 2),
    (2, 2),
    (2, 4),
    (2, 8),
    (4, 8),
    (8, 8),
    (16, 8),
    (32, 8),
    (64, 8),
    (125, 8),
    (128, 8),
)
GRADIENT_BYTES = 100 * MB


def table() -> str:
    """The table, in Markdown."""
    lines = [
        "| workers | hosts x members | connections of a worker | messages of a worker | MB sent by a host | flat: MB | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for hosts, each in SHAPES:
        shape = Shape(hosts, each, GRADIENT_BYTES)
        sent, flat = (
            round(total / hosts / MB) for total in (shape.bytes_of_all, shape.flat_bytes_of_all)
        )
        seconds = shape.seconds(Machine())
        lines.append(
            f"| {shape.workers:,} | {hosts} x {each} | {shape.connections} | {shape.messages:,} | {sent:,} | {flat:,} | {seconds:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
