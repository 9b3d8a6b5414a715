"""Is a state that all workers hold, and that is large, written by several of them, and is what they
write one checkpoint that plain TensorFlow reads?
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide.save_parts import LEAST_PART_BYTES
from orchestrator.store.checkpoints.reports import checkpoints_report
from orchestrator.store.objects.local_files import TEMPORARY_SUFFIX
from orchestrator.store.objects.location import open_location
from tests import forked
from tests.chaos.runs import Watcher, play
from tests.end_to_end import test_divided_tables
from tests.end_to_end.commands import plain_variables
from tests.end_to_end.test_divided_tables import assert_same

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.slow, pytest.mark.turns(8, "losses")]

INPUTS = Path(__file__).with_name("large_graph.py")
cluster = test_divided_tables.cluster


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("large")
    done = forked.run("tests.end_to_end.large_graph", made)
    assert done.returncode == 0, done.stderr[-4000:]
    return made / "large.ckpt-0.meta"


def config_for(source: Path, output: Path, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "source": str(source),
        "output": str(output),
        "until_step": 20,
        "save_steps": 10,
        "batches_per_step": 2,
        "workers": 2,
        "input": f"{INPUTS}:batches",
        "deterministic": True,
        "tensorboard": False,
        "prove": False,
    }
    return parse_config({**values, **changes})


def kill_as_it_writes(watcher: Watcher, pid: int) -> None:
    """Kill a process while it has a file open that isn't whole yet."""
    while not watcher.fired and Path(f"/proc/{pid}").exists():
        time.sleep(0.001)
        opened = []
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                opened.append(os.readlink(link))
        if any(name.endswith(TEMPORARY_SUFFIX) for name in opened):
            os.kill(pid, signal.SIGKILL)
            watcher.fired.append("killed")


def data_files(checkpoint: str) -> list[int]:
    """Their sizes, in order."""
    place = Path(checkpoint)
    return [file.stat().st_size for file in sorted(place.parent.glob(f"{place.name}.data-*"))]


def test_two_workers_write_a_part_each_of_the_bytes_that_one_worker_writes_alone(
    cluster: str, source: Path, tmp_path: Path
) -> None:
    alone, _ = play(config_for(source, tmp_path / "alone", workers=1))
    together, watcher = play(config_for(source, tmp_path / "together"))

    assert (alone.status, together.status, together.incidents) == ("done", "done", ())
    (whole,) = data_files(str(alone.checkpoint))
    parts = data_files(str(together.checkpoint))
    assert len(parts) == 2
    assert sum(parts) == whole
    assert min(parts) >= LEAST_PART_BYTES
    assert not watcher.named("variable_jumped")
    assert_same(
        plain_variables(str(together.checkpoint), tmp_path),
        plain_variables(str(alone.checkpoint), tmp_path),
    )


def test_worker_that_is_killed_while_it_writes_its_part_spoils_nothing(
    cluster: str, source: Path, tmp_path: Path
) -> None:
    agreed: list[int] = []

    def at_its_save(watcher: Watcher, kind: str, event: Mapping[str, Any]) -> None:
        # Some come due while the one before is still under way
        if kind == "save_agreed" and event["step"] >= 20:
            watcher.drop(at_its_save)
            agreed.append(event["step"])
            pid = watcher.pids[watcher.ranks[1]]
            threading.Thread(target=kill_as_it_writes, args=(watcher, pid), daemon=True).start()

    undisturbed, _ = play(config_for(source, tmp_path / "undisturbed", workers=1, until_step=60))
    config = config_for(source, tmp_path / "out", until_step=60)
    result, watcher = play(config, at_its_save)

    assert watcher.fired
    assert result.status == "done", result
    assert [incident["rank"] for incident in result.incidents] == [1]
    assert [each["step"] for each in watcher.named("save_lost")] == agreed
    rows = checkpoints_report(open_location(str(tmp_path / "out")), verify=True).checkpoints
    assert rows
    assert all(row.state == "good" for row in rows if row.state != "incomplete")
    assert_same(
        plain_variables(str(result.checkpoint), tmp_path),
        plain_variables(str(undisturbed.checkpoint), tmp_path),
    )
