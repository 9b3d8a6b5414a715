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

from orchestrator.training.state.state import State
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import changed
from tests.training.conftest import NewRanks
from tests.training.crew import SLOTS, Crew
from tests.training.deaths import Place
from tests.training.many_graphs import LIBRARY, NUMBERS, WILD, Case, corpus_cases
from tests.training.ranks import RankPool, Ranks

pytestmark = [pytest.mark.tf, pytest.mark.chaos, pytest.mark.slow, pytest.mark.turns(6)]


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
    alone = crew.run(1, STEPS)
    assert changed(crew.start, alone), "nothing was trained"
    assert not crew.differing(alone, crew.run(SLOTS, STEPS))
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
    assert not crew.differing(crew.run(1, STEPS), crew.run(SLOTS, STEPS))
    crew.ranks.each("apply", plant)
    alone = crew.run(1, STEPS)
    assert crew.differing(alone, crew.run(SLOTS, STEPS))
