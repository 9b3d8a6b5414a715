"""Is the checkpoint of a step the one that is named, in directories of TensorFlow's and of ours?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import parse_config
from orchestrator.errors import SourceError
from orchestrator.store.checkpoints.at_step import at_step
from orchestrator.store.checkpoints.source import named_source, resolve_source
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.fakes.bundles import model, write_checkpoint
from tests.store.runs import saved


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    for step in (500, 1000, 1500):
        write_checkpoint(tmp_path, f"model.ckpt-{step}", model(step))
    return tmp_path


def test_checkpoint_of_a_step_is_taken_though_there_are_newer_ones(foreign: Path) -> None:
    config = parse_config({"source": str(foreign), "from_step": 1000})
    found = resolve_source(named_source(config))
    assert found.step == 1000
    assert found.refused == (), "what wasn't asked for wasn't passed over either"
    newest = parse_config({"source": str(foreign)})
    assert resolve_source(named_source(newest)).step == 1500


def test_checkpoint_of_a_step_of_a_runs_output_is_the_newest_generations(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "out"))
    lease = acquire(output)
    record_takeover(output, 1, 1, 0)
    saved(output, 600, generation=1)
    record_takeover(output, 1, 2, 500)  # it fences what generation 1 saved beyond
    saved(output, 600, generation=2)
    saved(output, 700, generation=2)
    lease.release()
    url = at_step(output.url, 600)
    assert url.endswith("a0001-g0002/model.ckpt-600")
    found = resolve_source(url)
    assert found.step == 600


def test_step_that_is_not_there_is_refused_with_those_that_are(foreign: Path) -> None:
    with pytest.raises(SourceError, match="no checkpoint of step 800; it has 500, 1,000, 1,500"):
        at_step(str(foreign), 800)


def test_two_models_of_one_step_are_never_guessed_between(foreign: Path) -> None:
    write_checkpoint(foreign, "other-500", model(500))
    with pytest.raises(SourceError, match=r"2 checkpoints of step 500: model.ckpt-500, other-500"):
        at_step(str(foreign), 500)


def test_step_of_what_is_no_directory_is_refused(foreign: Path) -> None:
    with pytest.raises(SourceError, match="is no directory with checkpoints"):
        at_step(str(foreign / "model.ckpt-500"), 500)
