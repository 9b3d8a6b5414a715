"""How do members add up what they have where some of them share a host?

Rule: block by block, in two levels. Within a host everybody copies its nodes into memory that the
host's members share; then each rail (see ``topology``) takes a part of the block, adds up as much
as the tree lets be added within the host, and exchanges what is left with the same rail of the
other hosts: to the owner, who adds, and back from it, straight into the host's result. A last
meeting says that the result is whole. On one host there are no other hosts to exchange with, and
the rails do it all.

Memory of a host: two results that take turns, two staging areas of bounded size for each member,
and of what comes from other hosts a part of a block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from orchestrator.training.group.agreement import GATHER, HEADER, REDUCE, difference, fingerprint
from orchestrator.training.group.blocks import flattened
from orchestrator.training.group.collectives import Sum
from orchestrator.training.group.levels import SumPlan
from orchestrator.training.group.messages import Messages
from orchestrator.training.group.over_memory import PAGE, STAGING_BYTES, SharedMemory
from orchestrator.training.group.results import Results
from orchestrator.training.group.summation import Node
from orchestrator.training.group.topology import Topology
from orchestrator.training.group.wires import Wires, lost


class OverHosts:
    """``Collectives`` of members of whom some, or all, share a host.

    Args:
        wires: to the neighbours on this host and the partners on other hosts.
        bells: to the neighbours, and watching the connections to the partners.

    Raises:
        PeerLost: a member is gone.
    """

    def __init__(self, wires: Wires, bells: Wires, topology: Topology) -> None:
        self._wires, self._bells, self._topology = wires, bells, topology
        rank = wires.rank
        self._members = topology.hosts[topology.host(rank)]
        self._partners = topology.partners(rank)
        with self._leaving_when_lost():
            self._shared = SharedMemory(bells, self._members, topology.world_size)
        self._messages = Messages(wires, self._shared, topology)
        self._number = 0
        self._results: dict[int, Results] = {}
        self._plans: dict[tuple[Sum, int], SumPlan] = {}

    @property
    def rank(self) -> int:
        """See ``Collectives``."""
        return self._wires.rank

    @property
    def world_size(self) -> int:
        """See ``Collectives``."""
        return self._topology.world_size

    def all_reduce(
        self, parts: Mapping[Node, Sequence[np.ndarray]], wanted: Sum
    ) -> list[np.ndarray]:
        """See ``Collectives.all_reduce``."""
        with self._leaving_when_lost():
            return self._reduced(parts, wanted)

    def all_gather(self, blob: bytes) -> list[bytes | memoryview]:
        """See ``Collectives.all_gather``."""
        with self._leaving_when_lost():
            record = self._begin(GATHER, 0, b"", len(blob))
            self._agree(record, None)
            found = self._messages.gathered(blob, self._number, record)
        return [found[rank] for rank in range(self.world_size)]

    def abandon(self) -> None:
        """See ``Collectives.abandon``."""
        self._wires.abandon()
        self._bells.abandon()

    def close(self) -> None:
        """See ``Collectives.close``. Memory that somebody still looks at stays until he's done."""
        self._wires.close()
        self._bells.close()
        self._shared.close()

    @contextlib.contextmanager
    def _leaving_when_lost(self) -> Iterator[None]:
        with self._wires.leaving_when_lost(), self._bells.leaving_when_lost():
            yield

    # -- agreeing

    def _begin(self, operation: bytes, size: int, digest: bytes, message_bytes: int) -> bytes:
        """Tell the host's members what is to be done; the record."""
        self._wires.check()
        self._number += 1
        record = HEADER.pack(operation, self._number, size, digest)
        self._shared.tell(self._number, record, message_bytes)
        return record

    def _agree(self, record: bytes, wanted: Sum | None) -> None:
        """Meet, and go on only if all members of all hosts mean the same. Raises GroupDisagrees,
        PeerLost.
        """
        self._shared.meet()
        odd = {
            peer: told
            for peer, (told, _) in self._shared.told(self._number).items()
            if told != record
        }
        # Other hosts' members wait to hear of it, also where this host's are at odds among
        # themselves
        foreign = self._heard_across(record, next(iter(odd.values()), record))
        # Members beyond the last rail have no partners: what was heard across is passed on to them
        # in memory, with one more meeting
        if not odd and len(self._topology.hosts) > 1 and len(self._members) > self._topology.rails:
            for peer, told in foreign.items():
                self._shared.accuse(peer, told, self._number)
            self._shared.meet()
            foreign = foreign or self._shared.accused(self._number)
        for peer, told in (odd or foreign).items():
            raise difference(self.rank, self._wires.generation, record, peer, told, wanted)

    def _heard_across(self, record: bytes, another: bytes) -> dict[int, bytes]:
        """Of each partner whose record, or whose neighbour's, isn't this one's: that record."""
        if not self._partners:
            return {}
        theirs = {peer: bytearray(2 * HEADER.size) for peer in self._partners}
        outgoing = {peer: [memoryview(record + another)] for peer in self._partners}
        self._wires.swap(outgoing, {peer: [memoryview(each)] for peer, each in theirs.items()})
        found: dict[int, bytes] = {}
        for peer, each in theirs.items():
            for told in (bytes(each[: HEADER.size]), bytes(each[HEADER.size :])):
                if told[:4] not in (REDUCE, GATHER):
                    raise lost(
                        self.rank, peer, self._wires.generation, f"speaks nonsense: {told[:12]!r}"
                    )
                if told != record:
                    found[peer] = told
        return found

    # -- sums

    def _reduced(self, parts: Mapping[Node, Sequence[np.ndarray]], wanted: Sum) -> list[np.ndarray]:
        record = self._begin(REDUCE, wanted.layout.size, fingerprint(wanted), 0)
        results, flat = (
            self._results.get(wanted.key),
            {node: flattened(parts[node]) for node in wanted.held[self.rank]},
        )
        agreed = results is None or results.layout is not wanted.layout
        if agreed:
            # First agree: nobody should wait for memory that another one has no reason to share
            self._agree(record, wanted)
            results = self._new_results(wanted)
        assert results is not None
        result = results.next()
        plan = self._plan(wanted, results, result)
        # Copied before the members meet, so that one meeting serves both: that all mean the same,
        # and that the first block is there
        if plan.blocks:
            plan.fill(0, flat)
        if agreed:
            self._shared.meet()
        else:
            self._agree(record, wanted)
        for number in range(plan.blocks):
            if number:
                plan.fill(number, flat)
                self._shared.meet()
            plan.exchange(number, self._wires)
        plan.finish(self._wires)
        self._shared.meet(all_is_here=True)
        return results.views

    def _new_results(self, wanted: Sum) -> Results:
        size = max(PAGE, wanted.layout.size)
        memory = np.frombuffer(self._shared.shared(2 * size), np.uint8)
        halves = [memory[first : first + wanted.layout.size] for first in (0, size)]
        self._plans = {
            known: plan for known, plan in self._plans.items() if known[0].key != wanted.key
        }
        results = self._results[wanted.key] = Results(wanted.layout, halves)
        return results

    def _plan(self, wanted: Sum, results: Results, result: np.ndarray) -> SumPlan:
        plan = self._plans.get((wanted, results.turn))
        if plan is None:
            # Half an area stays in the processor's cache; between hosts the larger blocks are worth
            # more, since each is a message to every partner
            staging = STAGING_BYTES if len(self._topology.hosts) > 1 else STAGING_BYTES // 2
            plan = SumPlan(wanted, self._topology, self.rank, self._shared.area, staging, result)
            self._plans[wanted, results.turn] = plan
        return plan
