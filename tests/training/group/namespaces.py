"""How do tests get two hosts on one machine? Two network namespaces, joined by a pair of virtual
Ethernet devices.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Self

CLONE_NEWNET = 0x40000000


def missing() -> str:
    """Why this machine can't have namespaces; empty where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command `ip`"
    name = f"tfresume-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return "" if made.returncode == 0 else f"no network namespaces here: {made.stderr.strip()}"


@dataclass(frozen=True)
class Inside:
    """Puts the calling process into a namespace; it can be sent to a process that's to be started."""

    name: str

    def __call__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            if libc.setns(descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"can't enter {self.name}")
        finally:
            os.close(descriptor)


class TwoHosts:
    """Two namespaces and the link between them.

    Attributes:
        names: of the namespaces.
        addresses: of the hosts.
    """

    def __init__(self) -> None:
        self.names = tuple(f"tfresume-{os.getpid()}-{side}" for side in "ab")
        self.addresses = ("10.213.77.1", "10.213.77.2")

    def __enter__(self) -> Self:
        one, two = self.names
        for name in self.names:
            _ip("netns", "add", name)
        _ip("-n", one, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", two)
        for name, address in zip(self.names, self.addresses, strict=True):
            _ip("-n", name, "address", "add", f"{address}/30", "dev", "wire")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "wire", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            _ip("netns", "del", name)

    def cut(self) -> None:
        """The link falls silent: nobody is told."""
        _ip("-n", self.names[1], "link", "set", "wire", "down")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
