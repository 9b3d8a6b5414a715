"""Which members are connected with which?

Rule: all who share a host are, and across hosts those with the same place on theirs: the member at
place j of one host with the member at place j of every other, for as many places as the smallest
host has members. Such a row is a rail. So a member of a thousand on 125 hosts has 7 neighbours and
124 partners, not 999 connections. Everybody works it out alone from the addresses, and finds the
same.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Topology:
    """Where the members of a group are.

    Attributes:
        hosts: of each host, the ranks on it in ascending order; hosts in the order of their lowest
            rank.
    """

    hosts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, machines: Sequence[str]) -> Topology:
        """The topology of members on these machines, by rank."""
        found: dict[str, list[int]] = {}
        for rank, machine in enumerate(machines):
            found.setdefault(machine, []).append(rank)
        return cls(tuple(map(tuple, found.values())))

    @property
    def world_size(self) -> int:
        """Members of the group."""
        return sum(map(len, self.hosts))

    @functools.cached_property
    def rails(self) -> int:
        """How many places every host has."""
        return min(map(len, self.hosts))

    def host(self, rank: int) -> int:
        """The number of a rank's host."""
        return next(number for number, ranks in enumerate(self.hosts) if rank in ranks)

    def place(self, rank: int) -> int:
        """A rank's place on its host."""
        return self.hosts[self.host(rank)].index(rank)

    def neighbours(self, rank: int) -> tuple[int, ...]:
        """The other ranks on a rank's host."""
        return tuple(other for other in self.hosts[self.host(rank)] if other != rank)

    def partners(self, rank: int) -> tuple[int, ...]:
        """The ranks of other hosts on a rank's rail, in the order of hosts; none for whoever is
        beyond the last rail.
        """
        place, own = self.place(rank), self.host(rank)
        return (
            tuple(ranks[place] for number, ranks in enumerate(self.hosts) if number != own)
            if place < self.rails
            else ()
        )

    def peers(self, rank: int) -> tuple[int, ...]:
        """All ranks that a rank is connected with, ascending."""
        return tuple(sorted((*self.neighbours(rank), *self.partners(rank))))

    def carried(self, rank: int) -> tuple[int, ...]:
        """The ranks of a rail's host whose messages the member at ``rank`` carries to the other
        hosts.
        """
        return self.hosts[self.host(rank)][self.place(rank) :: self.rails]
