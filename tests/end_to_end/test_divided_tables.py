"""Does a run whose workers hold some rows of each table end with the very bytes of one whose workers
hold them whole, whatever becomes of its workers, and is what it saves plain TensorFlow?
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.store.bundle.bundle import read_index
from tests import forked
from tests.chaos.runs import kill_rank, play
from tests.end_to_end.commands import plain_variables, resumed, tfresume
from tests.graph.tables.graphs import ROWS
from tests.training.sharded_graphs import SLOTS

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.slow]

INPUTS = Path(__file__).with_name("table_batches.py")
GRAPHS = ("adagrad-ref", "parts-adam")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tables")
    done = forked.run("tests.training.sharded_graphs", made, *GRAPHS)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


@pytest.fixture
def cluster(ray_address: str) -> Iterator[str]:
    """This process, connected to the shared cluster."""
    import ray

    ray.init(address=ray_address, log_to_driver=False, ignore_reinit_error=True)
    yield ray_address
    ray.shutdown()


def rows_saved(checkpoint: str, table: str = "table") -> list[int]:
    """By data file, how many rows of a table it holds."""
    index = read_index(Path(f"{checkpoint}.index").read_bytes())
    rows = [0] * index.num_shards
    for piece in index.slice_data:
        if piece.key == table:
            rows[piece.shard] += piece.extents[0][1] if piece.extents[0][1] >= 0 else piece.shape[0]
    return rows


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if value.tobytes() != other[name].tobytes()] == []


@pytest.mark.turns(8, "what becomes of divided tables")
@pytest.mark.parametrize("name", GRAPHS)
def test_divided_tables_end_with_the_bytes_of_whole_ones_also_on_another_number_of_workers(
    room: Path, tmp_path: Path, ray_address: str, name: str
) -> None:
    def run(out: str, workers: int, until: int, *more: str) -> str:
        result = resumed(
            *(room / f"{name}-0.meta", "--output", tmp_path / out, "--address", ray_address),
            *("--workers", str(workers), "--batches-per-step", str(SLOTS), "--no-prove"),
            *("--input", f"{INPUTS}:batches", "--until-step", str(until), "--deterministic"),
            *("--save-steps", "2", "--max-to-keep", "0", *more),
        )
        assert (result["status"], result["final_step"], result["incidents"]) == ("done", until, [])
        return str(result["checkpoint"])

    whole = plain_variables(run("whole", 2, 8), tmp_path)
    two = run("divided", 2, 3, "--shard-tables", "table")
    # As at the run's first start, and without room for a copy
    three = run("divided", 3, 6, "--workers.memory-bytes", "1000000")
    for saved, workers in ((rows_saved(two), 2), (rows_saved(three), 3)):
        assert len(saved) == workers
        assert sum(saved) == ROWS
        assert max(saved) - min(saved) <= 3  # of each part as many, or one less
    again = run("divided", 2, 8, "--shard-tables", "none")

    assert len(rows_saved(again)) == 1  # one worker writes whole tables
    assert_same(plain_variables(again, tmp_path), whole)
    record = json.loads((tmp_path / "divided" / "_tfresume" / "run.json").read_text())
    assert record["shard_tables"] == ["table"]


def config_for(room: Path, output: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "source": str(room / "adagrad-ref-0.meta"),
        "output": str(output),
        "until_step": 100,
        "save_steps": 15,
        "batches_per_step": 2,
        "workers": {"count": 2, "standby": 1},
        "input": f"{INPUTS}:slow_batches",
        "deterministic": True,
        "tensorboard": False,
        "prove": False,
        "shard_tables": ["table"],
    }
    return parse_config({**values, **changes})


@pytest.mark.turns(8, "what becomes of divided tables")
def test_killed_worker_takes_the_run_back_to_its_newest_checkpoint_and_to_the_same_end(
    cluster: str, room: Path, tmp_path: Path
) -> None:
    undisturbed, _ = play(
        config_for(
            room,
            tmp_path / "undisturbed",
            input=f"{INPUTS}:batches",
            workers=2,
            shard_tables=["none"],
        )
    )
    config = config_for(room, tmp_path / "out", save_steps=40)
    result, watcher = play(config, kill_rank(1, at_step=45))

    assert watcher.fired
    assert result.status == "done", result
    (incident,) = result.incidents
    assert incident["rank"] == 1
    assert incident["steps_redone"] > 0
    found = watcher.named("finding_checkpoint")
    assert "each worker reads its own" in found[0]["reason"]
    # Of the group that the loss made: a standby that is warm later may make another
    again = watcher.named("generation")[1]
    assert again["state_from"] == "checkpoint"
    assert again["step"] >= 40
    assert_same(
        plain_variables(str(result.checkpoint), tmp_path),
        plain_variables(str(undisturbed.checkpoint), tmp_path),
    )


@pytest.mark.turns(8, "what becomes of divided tables")
def test_killed_worker_whose_rows_another_holds_costs_no_step_and_no_checkpoint_is_read(
    cluster: str, room: Path, tmp_path: Path
) -> None:
    undisturbed, _ = play(
        config_for(
            *(room, tmp_path / "undisturbed"),
            input=f"{INPUTS}:batches",
            batches_per_step=SLOTS,
            workers=2,
            shard_tables=["none"],
        )
    )
    config = config_for(
        *(room, tmp_path / "out"),
        batches_per_step=SLOTS,
        save_steps=1000,
        workers={"count": 3, "min": 2, "standby": 0},
        table_copies=2,
    )
    result, watcher = play(config, kill_rank(1, at_step=45))

    assert watcher.fired
    assert result.status == "done", result
    (incident,) = result.incidents
    assert (incident["rank"], incident["steps_redone"]) == (1, 0)
    assert "rows of tables from each other" in incident["action"]
    assert not watcher.named("finding_checkpoint")
    formed = watcher.named("generation")
    assert [each["state_from"] for each in formed][:2] == ["checkpoint", "donor"]
    assert not any(each["redone"] for each in formed)
    moved = watcher.named("rows_moved")
    assert moved
    assert all(each["rows"] > 0 and each["size_bytes"] > 0 and each["givers"] for each in moved)
    assert_same(
        plain_variables(str(result.checkpoint), tmp_path),
        plain_variables(str(undisturbed.checkpoint), tmp_path),
    )
    record = json.loads((tmp_path / "out" / "_tfresume" / "run.json").read_text())
    assert record["table_copies"] == 2


@pytest.mark.turns(8, "what becomes of divided tables")
def test_group_grows_by_rows_that_move_and_loses_no_step(
    cluster: str, room: Path, tmp_path: Path
) -> None:
    config = config_for(
        *(room, tmp_path / "out"),
        batches_per_step=SLOTS,
        save_steps=1000,
        until_step=200,
        workers={"count": 2, "min": 2, "max": 3, "standby": 0},
    )
    result, watcher = play(config)

    assert result.status == "done", result
    grown = [each for each in watcher.named("generation") if each["world_size"] == 3]
    assert grown
    assert grown[0]["state_from"] == "donor"
    assert grown[0]["redone"] == 0
    assert watcher.named("rows_moved")
    assert not watcher.named("finding_checkpoint")
    assert result.incidents == ()


def test_table_that_is_needed_whole_is_refused_by_name_before_anything_starts(
    room: Path, tmp_path: Path
) -> None:
    refused = tfresume(
        *("resume", room / "adagrad-ref-0.meta", "--output", tmp_path / "out", "--steps", "2"),
        *("--workers", "2", "--input", f"{INPUTS}:batches", "--shard-tables", "nothing"),
    )

    assert refused.code == 2
    assert "--shard-tables nothing: the graph has no variable of that name" in refused.stderr
    assert not (tmp_path / "out").exists()
