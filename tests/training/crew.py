"""How do processes that die and come train one graph together?

Rule: as the driver has it, without it: survivors go on with what they hold, whoever is behind gets
the state of who is ahead, newcomers know nothing. Who is said to have died did, by SIGKILL.
"""

from __future__ import annotations

from typing import Any

from orchestrator.errors import PeerLost
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State, checksums
from tests.training.conftest import NewRanks
from tests.training.deaths import Place, die
from tests.training.many_graphs import Source
from tests.training.ranks import RankProcess

SLOTS = 3
"""Batches of a step, and members at most."""


class Crew:
    """As many processes as slots, all with the graph; who died is replaced by a new one that knows
    nothing.
    """

    def __init__(self, source: Source, new_ranks: NewRanks) -> None:
        self.source, self._new_ranks = source, new_ranks
        self.options = TrainingOptions(batches_per_step=SLOTS, deterministic=True)
        self.ranks = new_ranks(SLOTS)
        self._crew = list(self.ranks.everyone)
        self.ranks.load(source.graph, self.options)
        self.start: State = self.ranks.processes[0].call(
            "load_checkpoint", str(source.prefix), init_missing=True
        )

    def begin(self, size: int) -> None:
        """A group of this size at the start."""
        self.ranks.form(self._living()[:size], position=0)
        self.ranks.each("apply", forget_local_variables)
        self.ranks.assign(self.start)

    def run(self, size: int, steps: int) -> State:
        """The state after these steps of a group of that size."""
        self.begin(size)
        for _ in range(steps):
            self.step()
        return self.agreed()

    def step(self) -> None:
        """One step."""
        self.ranks.step(self._batches())

    def resize(self, size: int) -> None:
        """Those who are there go on, newcomers get their state."""
        state = self.ranks.processes[0].call("state")
        members = self.ranks.processes
        others = [process for process in self._living() if process not in members]
        self.ranks.form([*members, *others][:size])
        for process in self.ranks.processes:
            if process not in members:
                process.call("apply", forget_local_variables)
                process.call("assign", state)

    def lose(self, rank: int, place: Place, turn: int) -> None:
        """A step in which a rank dies; the survivors take it to its end with what they hold."""
        victim = self.ranks.processes[rank]
        victim.call("apply", die, place, turn)
        for process, own in zip(
            self.ranks.processes, self.ranks.dealt(self._batches()), strict=True
        ):
            process.send("step", own)
        victim.process.join(60)
        assert victim.process.exitcode == -9, "the fault did not fire"
        survivors = [process for process in self.ranks.processes if process is not victim]
        outcomes = [_answer(process) for process in survivors]
        assert all(outcome is None or isinstance(outcome, PeerLost) for outcome in outcomes), (
            outcomes
        )
        if place == "computed":
            assert None not in outcomes, "what the victim kept to itself was not missed"
        self._go_on(survivors)

    def _go_on(self, survivors: list[RankProcess]) -> None:
        """As the driver has it: whoever is behind gets the state of who is ahead, and an unfinished
        step is taken again.
        """
        states = [process.call("state") for process in survivors]
        positions = [process.call("position") for process in survivors]
        places = [
            (position, state.phase) for position, state in zip(positions, states, strict=True)
        ]
        ahead = max(range(len(survivors)), key=places.__getitem__)
        self.ranks.form(survivors, position=positions[ahead])
        for process, place in zip(survivors, places, strict=True):
            if place != places[ahead]:
                process.call("assign", states[ahead])
        if positions[ahead] == self._asked:
            self.step()

    def agreed(self) -> State:
        """The state, which is the same on all ranks."""
        first, *others = self.ranks.states()
        for other in others:
            assert not self.differing(first, other)
        return first

    def differing(self, one: State, other: State) -> list[str]:
        """Variables whose bytes differ, other than local ones, which count each worker's own
        batches.
        """
        local = frozenset(
            variable.name for variable in self.source.graph.variables if variable.local
        )
        ours, theirs = checksums(one, without=local), checksums(other, without=local)
        assert ours.keys() == theirs.keys()
        assert (one.step, one.phase) == (other.step, other.phase)
        return [name for name in ours if ours[name] != theirs[name]]

    def _batches(self) -> list[Any]:
        self._asked = self.ranks.position
        return [self.source.serve(100 + self._asked + slot) for slot in range(self.ranks.slots)]

    def _living(self) -> list[RankProcess]:
        self._crew = [process for process in self._crew if process.alive]
        while len(self._crew) < SLOTS:
            newcomers = self._new_ranks(1)
            newcomers.load(self.source.graph, self.options)
            self._crew += newcomers.everyone
        return self._crew


def _answer(process: RankProcess) -> BaseException | None:
    try:
        process.receive(60)
    except Exception as error:  # noqa: BLE001  (the test looks at it)
        return error
    return None


def forget_local_variables(trainer: Any) -> None:
    """As in a process that starts."""
    trainer._snapshot._restored = None
