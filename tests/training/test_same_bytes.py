"""Does a run end with the same bytes on one worker, on as many as a step has batches, and on a
number that changes in mid-step?

Rule: three runs of the same steps in the same processes from the same state: alone, together, and
one whose members die by SIGKILL between computing and applying while others come. Every variable
that is trained, kept or counted is compared, byte for byte. A bug that is planted has to show, or
the comparison proves nothing.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import PeerLost
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State, checksums
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import changed
from tests.training.conftest import NewRanks
from tests.training.deaths import Place, die
from tests.training.many_graphs import LIBRARY, NUMBERS, WILD, Case, Source, corpus_cases
from tests.training.ranks import RankPool, RankProcess, Ranks

pytestmark = [pytest.mark.tf, pytest.mark.chaos, pytest.mark.slow, pytest.mark.turns(4)]

SLOTS = 3


@pytest.fixture(scope="module")
def rank_pool() -> Iterator[RankPool]:
    """Processes of this file's own: the first session of a process settles its number of threads,
    and other tests leave that open.
    """
    pool = RankPool()
    yield pool
    pool.close()


OFTEN = {
    *(
        "library-mlp-optimizer=ftrl-resource=True",
        "library-embedding-optimizer=adam-partitions=3",
        "library-conv_bn-style=group",
    ),
    *(
        "library-dropout-resource=True",
        "library-lstm",
        "numbers-float16",
        "numbers-complex64",
        "wild-adversarial",
    ),
}
"""Each habit that a group has to get right once; the others are soaked in."""


def _cases() -> list[Any]:
    every = [*LIBRARY, *NUMBERS, *WILD, *corpus_cases()]
    return [
        pytest.param(case, id=str(case), marks=() if str(case) in OFTEN else pytest.mark.soak)
        for case in every
    ]


@dataclass(frozen=True)
class Round:
    """Some steps of a group of this size, and who dies in the step after them.

    Attributes:
        victim: the rank that dies; None where the size just changes.
    """

    size: int
    steps: int
    victim: int | None = None
    place: Place = "computed"


def rounds_of(seed: int) -> list[Round]:
    """Two deaths, one of them leaving a single survivor; every size occurs."""
    draw = random.Random(seed)
    places: list[Place] = ["computed", "exchanged"]
    draw.shuffle(places)
    return [
        Round(2, 1, draw.randrange(2), places[0]),
        Round(3, 1, draw.randrange(3), places[1]),
        Round(draw.choice((1, 2)), 1),
    ]


STEPS = 5
"""What the rounds of any seed take: one in each, and one in which somebody dies in two of them."""


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

    def run(self, size: int, steps: int = STEPS) -> State:
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


def disturbed(crew: Crew, seed: int) -> State:
    """The state after the same steps through deaths and changes of size."""
    draw = random.Random(seed)
    rounds = rounds_of(seed)
    crew.begin(rounds[0].size)
    for number, each in enumerate(rounds):
        if number:
            crew.resize(each.size)
        for _ in range(each.steps):
            crew.step()
        if each.victim is not None:
            crew.lose(each.victim, each.place, draw.randint(1, len(crew.source.graph.targets)))
    return crew.agreed()


@pytest.mark.parametrize("case", _cases())
def test_graph_trained_alone_together_and_through_deaths_ends_with_the_same_bytes(
    case: Case, tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    source = case.source(tf1_checkpoint, tmp_path)
    assert not source.graph.group_refused, source.graph.group_refused
    if source.graph.stateful_random:
        pytest.skip(
            f"not promised: {source.graph.stateful_random[0]} draws from a hidden state, as `check` says"
        )
    crew = Crew(source, new_ranks)
    alone = crew.run(1)
    assert changed(crew.start, alone), "nothing was trained"
    assert not crew.differing(alone, crew.run(SLOTS))
    assert not crew.differing(alone, disturbed(crew, zlib.crc32(str(case).encode())))


def test_proof_takes_in_twenty_graphs_without_those_of_strangers() -> None:
    assert len({str(case) for case in (*LIBRARY, *NUMBERS, *WILD)}) >= 20


@pytest.mark.skipif(
    not corpus_cases(),
    reason="the third-party checkpoints of ../shared/corpus are not on this machine",
)
def test_proof_takes_in_graphs_of_strangers() -> None:
    assert len(corpus_cases()) >= 10


# -- what would have to show


@pytest.fixture
def spoiled(new_ranks: NewRanks) -> Iterator[NewRanks]:
    """Ranks whose processes end with the test, since it plants bugs in their modules."""
    taken: list[Ranks] = []

    def take(count: int) -> Ranks:
        taken.append(new_ranks(count))
        return taken[-1]

    yield take
    for ranks in taken:
        for process in ranks.everyone:
            process.close()


def _draw_by_rank(trainer: Any) -> None:
    """The bug: random numbers are keyed by the rank that computes a batch."""
    course = trainer._course
    usual = type(course)._keyed

    def keyed(batch: Any) -> Any:
        moved = replace(batch, number=batch.number + 1000 * trainer.group.rank)
        return replace(usual(course, moved), number=batch.number)

    course._keyed = keyed


def _add_as_they_come(trainer: Any) -> None:
    """The bug: one who has several batches adds them in their order, not as the tree has it."""
    from orchestrator.training.group import summation

    tree = summation.additions

    def chain(slots: int) -> Any:
        if trainer.group.world_size > 1:
            return tree(slots)
        return tuple((tuple(range(slot)), (slot,)) for slot in range(1, slots))

    summation.additions = chain  # type: ignore[assignment]
    join = trainer._group.join

    def joined(spec: Any) -> None:
        summation.nodes_of.cache_clear()
        join(spec)

    trainer._group.join = joined


@pytest.mark.parametrize(
    ("case", "plant"),
    [
        pytest.param(Case("library", "dropout"), _draw_by_rank, id="random numbers by rank"),
        pytest.param(
            Case("library", "mlp", {"optimizer": "adam"}),
            _add_as_they_come,
            id="sums in order of ranks",
        ),
    ],
)
def test_bug_that_makes_the_number_of_workers_show_is_found(
    case: Case, plant: Any, tf1_checkpoint: CheckpointLibrary, spoiled: NewRanks, tmp_path: Path
) -> None:
    crew = Crew(case.source(tf1_checkpoint, tmp_path), spoiled)
    assert not crew.differing(crew.run(1), crew.run(SLOTS))
    crew.ranks.each("apply", plant)
    alone = crew.run(1)
    assert crew.differing(alone, crew.run(SLOTS))
