"""Is it known before anything starts from where and to which step is trained?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.driver.startup import (
    step_of,
)
from orchestrator.errors import ConfigError, OutputError
from orchestrator.store.checkpoints.source import resolve_source, source_fingerprint
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lineage import record_takeover
from tests.driver.seed_sources import config_for, record_of, save, started, write_seed
from tests.store.chains import Run


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "out"))


def test_first_start_goes_on_from_the_source_and_counts_its_steps_from_there(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run", number=50)
    found = started(config_for(source, output))
    named = resolve_source(str(source))
    assert (found.source, found.named) == (named, "m")
    assert found.fingerprint == source_fingerprint(named)
    assert (found.step, found.started_step, found.until) == (3, 3, 7)
    assert (found.own_label, found.parent) == (None, (0, 0))
    assert found.warnings == ("the name says step 50, the data says 3; the data counts",)


def test_later_start_goes_on_from_what_the_run_has_saved_and_ends_where_the_first_would_have(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run")
    config, record = config_for(source, output), record_of(source)
    assert started(config, record).own_label is None
    label = save(output, source, 5, tmp_path)
    found = started(config, record)
    assert (found.own_label, found.parent) == (label, (1, 2))
    assert (found.step, found.started_step, found.until) == (5, 3, 7)
    assert found.fingerprint == record.fingerprint
    assert found.named == "m"
    assert found.source.manifest is not None


@pytest.mark.parametrize("is_later", [False, True])
def test_end_that_was_given_as_a_step_is_that_step_at_every_start(
    tmp_path: Path, output: Location, is_later: bool
) -> None:
    source = write_seed(tmp_path / "run")
    if is_later:
        save(output, source, 5, tmp_path)
    config = config_for(source, output, steps=None, until_step=8)
    assert started(config, record_of(source) if is_later else None).until == 8


def test_checkpoint_that_was_passed_over_is_named_with_the_reason(
    tmp_path: Path, output: Location
) -> None:
    source = write_seed(tmp_path / "run")
    label = save(output, source, 5, tmp_path)
    save(output, source, 6, tmp_path)
    output.child("a0001-g0002", "m-6.index").write_bytes(b"damaged")
    found = started(config_for(source, output), record_of(source))
    assert found.own_label == label
    (warning,) = found.warnings
    assert "m-6 was passed over: " in warning
    assert not warning.endswith(": ")


def test_start_without_an_end_is_refused_before_the_source_is_read(output: Location) -> None:
    with pytest.raises(ConfigError, match="the run has no end"):
        started(config_for(Path("nowhere"), output, steps=None))


def test_output_of_another_source_is_refused_with_both(tmp_path: Path, output: Location) -> None:
    one, other = write_seed(tmp_path / "one"), write_seed(tmp_path / "other", "mlp")
    with pytest.raises(OutputError, match=r"holds a run of .*one/m-3, not of .*other/m-3"):
        started(config_for(other, output), record_of(one))


def test_run_whose_changed_rows_are_at_its_end_takes_its_last_steps_once_more(
    tmp_path: Path, output: Location
) -> None:
    """It ends with a checkpoint that plain TensorFlow reads."""
    trained = Run(rows=20, columns=2)
    record_takeover(output, 1, 1, 0)
    trained.train(0.1)
    trained.saved(output)
    trained.train(0.1)
    trained.saved_changes(output)
    source = write_seed(tmp_path / "run")
    record = record_of(source, started_step=0)
    for until, step, label in ((2, 1, "a0001-g0001/m-1"), (3, 2, "a0001-g0001/m-2.changed")):
        found = started(config_for(source, output, steps=until), record)
        assert (found.step, found.own_label, found.until) == (step, label, until)
        by_step = config_for(source, output, steps=None, until_step=until)
        assert started(by_step, record) == found


@pytest.mark.parametrize(
    ("number", "key", "step"), [(50, "global_step", 3), (50, "steps", 50), (0, "steps", 0)]
)
def test_step_of_a_checkpoint_is_that_in_its_data_else_the_number_in_its_name(
    tmp_path: Path, number: int, key: str, step: int
) -> None:
    prefix = write_seed(tmp_path, number=number, called={"global_step": key})
    assert step_of(resolve_source(str(prefix))) == step
    assert step_of(replace(resolve_source(str(prefix)), step=None, step_in_name=None)) == 0
