"""Does a step that fails change anything: a variable, a table, an input position?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import PeerLost, UserCodeError
from orchestrator.graph import cut
from orchestrator.graph.gradients import barrier
from orchestrator.training.state.state import State
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training.comparing import assert_identical, changed
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]

GRAPHS: list[tuple[str, dict[str, Any]]] = [
    ("conv_bn", {"style": "dependencies"}),
    ("conv_bn", {"style": "group"}),
    ("ema", {}),
    ("embedding", {"optimizer": "adam"}),
    ("embedding", {"optimizer": "adam", "resource": True}),
    ("metrics", {}),
    ("dropout", {}),
    ("queue", {}),
    ("tfdata", {}),
]
IDS = ["-".join([kind, *map(str, options.values())]) for kind, options in GRAPHS]
LOCAL = frozenset({"accuracy/total", "accuracy/count"})
"""Streaming metrics count each rank's own batches."""


class Batches:
    """What each rank is fed in each step: made by the test, or pulled from the graph's own pipeline
    and held.
    """

    def __init__(self, kind: str, ranks: Ranks) -> None:
        self._serve = feeds_for(kind)
        self._ranks = ranks
        self._pulls = not self._serve(0)
        self._held: dict[int, list[Mapping[str, Any]]] = {}

    def of(self, step: int) -> list[Mapping[str, Any]]:
        """One batch for each rank; the same at every call for a step."""
        if step not in self._held:
            count = len(self._ranks.processes)
            own = [self._serve(500 + step * count + rank) for rank in range(count)]
            self._held[step] = self._ranks.each("pull") if self._pulls else own
        return self._held[step]


def peer_abandons(ranks: Ranks, batches: list[Mapping[str, Any]]) -> Any:
    """Rank 1 leaves while rank 0 is in its step."""
    ranks.processes[0].send("step", ranks.dealt(batches)[0])
    ranks.processes[1].control("abandon")
    with pytest.raises(PeerLost) as caught:
        ranks.processes[0].receive(20)
    return caught.value


@pytest.mark.parametrize(("kind", "options"), GRAPHS, ids=IDS)
def test_step_whose_peer_leaves_changes_nothing_and_is_taken_again_as_if_nothing_had_happened(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, kind: str, options: dict[str, Any]
) -> None:
    ranks = new_ranks(2)
    start = ranks.start(
        tf1_checkpoint(kind, **options),
        batches=None if kind in ("queue", "tfdata") else "tests:none",
    )
    batches = Batches(kind, ranks)
    for step in range(3):
        ranks.step(batches.of(step))
    before = ranks.states()

    peer_abandons(ranks, batches.of(3))

    after = ranks.states()
    for old, new in zip(before, after, strict=True):
        assert_identical(old, new)
    ranks.form()
    for step in (3, 4):
        ranks.step(batches.of(step))
    recovered = ranks.states()
    assert_identical(recovered[0], recovered[1], without=LOCAL)
    written = set(changed(before[0], recovered[0]))
    assert {name for name, array in start.arrays.items() if array.size} <= written
    assert_identical(recovered[0], _undisturbed(ranks, start, batches, steps=5))


def _undisturbed(ranks: Ranks, start: State, batches: Batches, *, steps: int) -> State:
    ranks.form(position=0)
    ranks.each("apply", _forget_local_variables)
    ranks.assign(start)
    for step in range(steps):
        ranks.step(batches.of(step))
    return ranks.states()[0]


def _forget_local_variables(trainer: Any) -> None:
    trainer._snapshot._restored = None


def test_step_that_fails_in_the_graph_of_one_rank_changes_nothing_anywhere(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(3)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    serve = feeds_for("mlp")
    ranks.step([serve(rank) for rank in range(3)])
    before = ranks.states()
    wrong = dict(serve(5)) | {"y:0": np.full(8, 99)}

    outcomes = ranks.outcomes([serve(3), wrong, serve(4)])

    assert [type(outcome) for outcome in outcomes] == [PeerLost, UserCodeError, PeerLost]
    assert "99" in outcomes[1].message
    assert "SparseSoftmaxCrossEntropyWithLogits" in outcomes[1].details["traceback"]
    for old, new in zip(before, ranks.states(), strict=True):
        assert_identical(old, new)


@pytest.mark.parametrize(
    ("spoil", "telling"),
    [
        (lambda batch: {**batch, "x:0": batch["x:0"][:, :2]}, "shape"),
        (lambda batch: {**batch, "nowhere:0": batch["y:0"]}, "nowhere:0"),
        (lambda batch: {"x:0": batch["x:0"]}, "y:0"),
        (lambda batch: {**batch, "y:0": np.array(["cat"] * 8)}, "int64"),
        (lambda batch: {**batch, "x:0": batch["x:0"][:3]}, "same first dimension"),
    ],
    ids=["shape", "unknown key", "missing key", "dtype", "rows differ"],
)
def test_step_with_a_bad_feed_on_one_rank_is_the_users_error_there_and_a_lost_peer_elsewhere(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    spoil: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    telling: str,
) -> None:
    ranks = new_ranks(2)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    serve = feeds_for("mlp")
    ranks.step([serve(0), serve(1)])

    first, second = ranks.outcomes([serve(2), spoil(serve(3))])

    assert isinstance(first, PeerLost)
    assert isinstance(second, UserCodeError)
    assert telling in str(second)


def test_step_with_a_bad_feed_in_a_group_of_one_leaves_the_session_usable(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    ranks = new_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="adam"))
    serve = feeds_for("mlp")
    before = ranks.states()[0]
    outcome = ranks.outcomes([dict(serve(5)) | {"y:0": np.full(8, 99)}])[0]
    assert isinstance(outcome, UserCodeError)
    assert_identical(before, ranks.states()[0])
    assert ranks.step([serve(0)])[0].step == before.step + 1


def out_of_range(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**batch, "x:0": np.full_like(batch["x:0"], 1e4)}


@pytest.mark.parametrize("resource", [False, True], ids=["reference", "resource"])
@pytest.mark.parametrize("world_size", [1, 2])
def test_check_that_no_update_waits_for_fails_before_any_of_them(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, world_size: int, resource: bool
) -> None:
    ranks = new_ranks(world_size)
    ranks.start(tf1_checkpoint("checked", resource=resource), workers=world_size)
    serve = feeds_for("checked")
    ranks.step([serve(rank) for rank in range(world_size)])
    before = ranks.states()

    outcomes = ranks.outcomes([out_of_range(serve(5 + rank)) for rank in range(world_size)])

    assert any(isinstance(outcome, UserCodeError) for outcome in outcomes), outcomes
    for old, new in zip(before, ranks.states(), strict=True):
        assert_identical(old, new)


@pytest.mark.parametrize(
    ("world_size", "room", "part", "instead"),
    [(1, cut, "guard", lambda *_: ""), (2, barrier, "_ends", lambda *_: [])],
)
def test_same_check_lets_a_half_step_through_where_no_barrier_waits_for_it(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    monkeypatch: pytest.MonkeyPatch,
    world_size: int,
    room: Any,
    part: str,
    instead: Callable[..., Any],
) -> None:
    """What the test above would find without the barrier."""
    monkeypatch.setattr(room, part, instead)
    ranks = new_ranks(world_size)
    ranks.start(tf1_checkpoint("checked"), workers=world_size)
    serve = feeds_for("checked")
    ranks.step([serve(rank) for rank in range(world_size)])
    before = ranks.states()
    outcomes = ranks.outcomes([out_of_range(serve(5 + rank)) for rank in range(world_size)])
    assert any(isinstance(outcome, UserCodeError) for outcome in outcomes), outcomes
    assert changed(before[0], ranks.states()[0])
