"""Where can a member be reached, and from where through memory?

Rule: an address says it all, so that every member finds the same connections from the addresses of
all.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from orchestrator.training.group.topology import Topology


@dataclass(frozen=True)
class Address:
    """Where a member can be reached.

    Attributes:
        machine: equal for processes that share memory and the namespace of Unix sockets.
        host, port: of its TCP socket.
        name: of its Unix socket.
        shares: whether it can share memory with the others of its machine.
        life_name, life_port: of its lifeline's Unix and TCP sockets; empty and 0 where it has none.
    """

    machine: str
    host: str
    port: int
    name: str
    shares: bool = True
    life_name: str = ""
    life_port: int = 0

    def as_text(self) -> str:
        """For ``GroupSpec.addresses``."""
        return json.dumps(list(astuple(self)))

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address in ``text``. Raises ValueError."""
        machine, host, port, name, shares, life_name, life_port = json.loads(text)
        return cls(
            str(machine),
            str(host),
            int(port),
            str(name),
            bool(shares),
            str(life_name),
            int(life_port),
        )


def this_machine() -> str:
    """The kernel's boot and the network namespace: containers of one pod share both, and those of
    two pods don't share sockets.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
            return f"{boot.read().strip()}/{os.stat('/proc/self/ns/net').st_ino}"
    except OSError:
        return secrets.token_hex(16)


def topology_of(addresses: Sequence[Address]) -> Topology:
    """Who shares a host with whom; whoever can't share memory is on one of its own."""
    return Topology.of(
        [
            each.machine if each.shares else f"{each.machine} {rank}"
            for rank, each in enumerate(addresses)
        ]
    )


def family(host: str) -> socket.AddressFamily:
    """Of the addresses that ``host`` stands for."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET
