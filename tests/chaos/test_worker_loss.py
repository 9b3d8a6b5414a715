"""Does a run whose workers are killed end with the very bytes of one that nothing happened to?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chaos.runs import config_for, kill_rank, play, variables_of

pytestmark = [pytest.mark.ray, pytest.mark.tf, pytest.mark.chaos]


@pytest.fixture(scope="session")
def cluster(ray_address: str) -> Any:
    import ray

    ray.init(address=ray_address, log_to_driver=False, ignore_reinit_error=True)
    yield ray_address


@pytest.fixture(scope="session")
def undisturbed(cluster: str, tf1_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    result, watcher = play(config_for(tf1_checkpoint("mlp"), output))
    assert result.status == "done", result
    assert not watcher.named("incident")
    return variables_of(output / result.checkpoint)


def assert_same_bytes(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    assert not different, f"these variables differ: {different}"


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_worker_with_a_standby_ends_with_the_bytes_of_an_undisturbed_run(
    rank: int, cluster: str, tf1_checkpoint: Any, tmp_path: Path, undisturbed: dict[str, np.ndarray]
) -> None:
    output = tmp_path / "out"
    result, watcher = play(config_for(tf1_checkpoint("mlp"), output), kill_rank(rank, at_step=30, need_standby=True))
    assert watcher.fired, "nothing was killed"
    assert result.status == "done", result
    assert [incident["kind"] for incident in result.incidents] == ["died"]
    assert result.incidents[0]["rank"] == rank
    assert result.incidents[0]["steps_redone"] == 0
    assert_same_bytes(undisturbed, variables_of(output / result.checkpoint))
