"""What the chaos tests share: one connected cluster, and the bytes that an undisturbed run ends
with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chaos.runs import config_for, play, variables_of
from tests.chaos.script import Script
from tests.chaos.supervision import Supervised


@pytest.fixture
def cluster(ray_address: str) -> Iterator[str]:
    """This process, connected to the shared cluster."""
    import ray

    ray.init(address=ray_address, log_to_driver=False, ignore_reinit_error=True)
    yield ray_address
    ray.shutdown()


@pytest.fixture
def start() -> Iterator[Callable[..., Supervised]]:
    """Starts supervised runs, and ends what is left of them."""
    runs: list[Supervised] = []

    def begin(*args: Any, **changes: Any) -> Supervised:
        runs.append(Supervised(*args, **changes))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.terminate()
            run.process.wait(60)


@pytest.fixture(scope="session")
def undisturbed(
    ray_address: str, tf1_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """The final variables of the run that the chaos tests disturb."""
    import ray

    ray.init(address=ray_address, log_to_driver=False, ignore_reinit_error=True)
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    result, watcher = play(config_for(tf1_checkpoint("mlp"), output, workers=2))
    ray.shutdown()
    assert result.status == "done", result
    assert not watcher.named("incident")
    return variables_of(Path(str(result.checkpoint)))


def assert_same_bytes(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    """Every variable has the same bytes in both."""
    assert one.keys() == other.keys()
    different = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    assert not different, f"these variables differ: {different}"


def undisturbed_phased(
    tf1_checkpoint: Any, directory: Path, until: int
) -> Mapping[str, np.ndarray]:
    """What the same run ends with when nothing happens to it."""
    calm = directory / "calm"
    calm.mkdir()
    script = Script(calm, [])
    config = config_for(
        tf1_checkpoint("phased"),
        calm / "out",
        until_step=until,
        workers=2,
        deterministic=False,
        **script.config,
    )
    result, watcher = play(config)
    assert result.status == "done", result
    assert not watcher.named("incident")
    return variables_of(Path(str(result.checkpoint)))
