"""Which of several checkpoints of one step is the newest, where a counter stood still?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.checkpoints.source import newest_source
from orchestrator.store.objects.layout import checkpoint_name, position_in, split_step
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import model, write_checkpoint
from tests.store.runs import saved


def test_name_of_a_further_checkpoint_tells_step_and_position() -> None:
    assert checkpoint_name("model.ckpt", 100) == "model.ckpt-100"
    again = checkpoint_name("model.ckpt", 100, 96)
    assert again == "model.ckpt.at96-100"
    assert split_step(again) == ("model.ckpt.at96", 100)
    assert (position_in(again), position_in("model.ckpt-100")) == (96, 0)


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "run"))


def again(output: Location, scratch: Path, step: int, position: int) -> None:
    """Commits a further checkpoint of a step."""
    name = f"model.ckpt.at{position}"
    files = write_checkpoint(scratch / str(position), f"{name}-{step}", model(step))
    records = upload(files, output.child("a0001-g0001"))
    fields = {"step_key": "global_step", "position": position, "training_s": 0.0}
    commit(
        output,
        Manifest(name=name, step=step, attempt=1, generation=1, files=records, **fields),
    )


def test_newest_checkpoint_of_a_step_is_the_one_of_the_highest_position(
    output: Location, tmp_path: Path
) -> None:
    record_takeover(output, 1, 1, 0)
    saved(output, 100, position=8)
    for position in (24, 16, 112):  # as text 112 would come before 16
        (tmp_path / str(position)).mkdir()
        again(output, tmp_path, 100, position)
    names = [item.candidate.prefix for item in list_checkpoints(output)]
    assert names == [
        "model.ckpt.at112-100",
        "model.ckpt.at24-100",
        "model.ckpt.at16-100",
        "model.ckpt-100",
    ]
    assert read_pointer(output) == "a0001-g0001/model.ckpt.at112-100"
    source, _ = newest_source(output)
    assert source is not None
    assert source.manifest is not None
    assert (source.step, source.manifest.position) == (100, 112)
    saved(output, 101, position=120)
    assert list_checkpoints(output)[0].step == 101
