"""Are lookup tables part of the state: initialised, restored, saved, and unchanged by a step that
failed?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import PeerLost
from orchestrator.training.state.state import State
from tests import forked
from tests.training.conftest import NewRanks
from tests.training.ranks import Ranks, outcome_of
from tests.training.test_bundle_writer import write_state

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint at step 3, whose table holds 1, 2 and 3."""
    directory = tmp_path_factory.mktemp("table")
    done = forked.run("tests.training.table_graph", directory)
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.splitlines()[-1])


def batch(step: int) -> dict[str, Any]:
    rows = np.random.default_rng(step).normal(size=(2, 4)).astype(np.float32)
    return {"x:0": rows, "words:0": np.array([b"cat", b"bird"], dtype=object)}


def table(state: State) -> dict[int, int]:
    return dict(
        zip(
            state.arrays["entry:seen-keys"].tolist(),
            state.arrays["entry:seen-values"].tolist(),
            strict=True,
        )
    )


def train(ranks: Ranks, steps: range) -> list[State]:
    for step in steps:
        ranks.step([batch(2 * step + rank) for rank in range(len(ranks.processes))])
    return ranks.states()


def test_table_goes_on_from_the_checkpoint_through_a_lost_step_into_the_next_checkpoint(
    prefix: Path, new_ranks: NewRanks, tmp_path: Path
) -> None:
    ranks = new_ranks(2)
    start = ranks.start(prefix)
    held = table(start)
    assert len(held) == 3
    before = train(ranks, range(2))[0]
    assert len(table(before)) == 5

    ranks.processes[0].send("step", [batch(50)])
    ranks.processes[1].control("abandon")
    assert isinstance(outcome_of(ranks.processes[0].receive), PeerLost)

    for state in ranks.states():
        assert table(state) == table(before)
    ranks.form()
    after = train(ranks, range(2, 3))[0]
    assert len(table(after)) == 6
    ranks.processes[0].call("apply", write_state, str(tmp_path), "model.ckpt-6")
    assert table(
        ranks.processes[0].call("load_checkpoint", str(tmp_path / "model.ckpt-6"))
    ) == table(after)
