"""Does a start see what another driver did until the lease was taken, and does it take over only
workers that do what it asks for?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import main, taking_up
from orchestrator.driver.beginning import DRIVER_ONLY, Ready, prepared, refuse_others_workers
from orchestrator.driver.claim import Claim
from orchestrator.driver.inbox import Inbox
from orchestrator.driver.observer import Observers
from orchestrator.driver.past import Past
from orchestrator.driver.signals import Door
from orchestrator.driver.startup import StartPoint, make_plan, start_point
from orchestrator.errors import ConfigError, OutputError
from orchestrator.redaction import redacted_data
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.source import resolve_source, source_fingerprint
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.run.run_record import RunRecord, create_run_record
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import model, write_checkpoint
from tests.graphs.library import CheckpointLibrary

FIRST = {"until_step": 900, "input": "mine:batches"}


def config_for(source: Path | str, output: Location, **changes: Any) -> RunConfig:
    return parse_config({"source": str(source), "output": output.url, **FIRST, **changes})


def record_of(source: Path) -> RunRecord:
    named = resolve_source(str(source))
    return RunRecord(
        source=named.url, fingerprint=source_fingerprint(named), name=named.name, started_step=3
    )


def written(config: RunConfig) -> Any:
    """A configuration as an attempt journals it."""
    return redacted_data(config.model_dump(mode="json"))


def save(output: Location, source: Path, step: int, attempt: int, scratch: Path) -> None:
    """The checkpoint of ``source`` once more, as the driver of ``attempt`` commits it at ``step``."""
    files = []
    for file in sorted(source.parent.glob(f"{source.name}.*")):
        copy = scratch / file.name.replace(source.name, f"model.ckpt-{step}")
        copy.write_bytes(file.read_bytes())
        files.append(copy)
    records = upload(files, output.child(f"a{attempt:04d}-g0001"))
    manifest = Manifest(
        name="model.ckpt",
        step=step,
        attempt=attempt,
        generation=1,
        files=records,
        position=2 * step,
    )
    commit(output, manifest)


@pytest.mark.tf
def test_start_looks_again_once_the_lease_is_held(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another driver commits its last checkpoint between this one's look and its lease; it used to
    be fenced by an older start.
    """
    source, output = tf1_checkpoint("mlp"), open_location(str(tmp_path / "out"))
    (tmp_path / "mine.py").write_text("def batches(ctx): ...\n")
    config = config_for(source, output, input=f"{tmp_path}/mine.py:batches")
    other = acquire(output)
    create_run_record(output, record_of(source))
    record_takeover(output, other.attempt, 1, 3)
    save(output, source, 100, other.attempt, tmp_path)
    begun: list[str] = []

    def ends_meanwhile(*args: Any) -> Claim:
        begun.append("lease")
        save(output, source, 192, other.attempt, tmp_path)
        other.release()
        return Claim(config, output, acquire(output), Past())

    def started(claim: Claim, ready: Ready, *others: Any) -> Any:
        begun.append(f"start from {ready.start.own_label}")
        return ready

    for module in (main, taking_up):
        monkeypatch.setattr(module, "living_workers", lambda namespace: [])
    monkeypatch.setattr(main, "check_room", lambda config, namespace: begun.append("room"))
    monkeypatch.setattr(Claim, "take", ends_meanwhile)
    monkeypatch.setattr(taking_up, "_start", started)
    inbox = Inbox()
    ready: Any = main._resume(config, output, lambda: None, Observers([]), inbox, Door(inbox.put))
    assert begun == ["room", "lease", "start from a0001-g0001/model.ckpt-192"]
    assert (ready.start.step, ready.start.parent, ready.plan.step) == (192, (1, 1), 192)


@pytest.mark.tf
@pytest.mark.parametrize("number", [1, 50])
@pytest.mark.parametrize(
    "options",
    [{"step": "Variable_10"}, {"step": "Variable_10", "version": 1}, {"step": "as_float"}],
    ids=str,
)
def test_steps_are_counted_from_the_graphs_own_counter_whatever_the_file_is_called(
    number: int, options: dict[str, Any], tf1_checkpoint: CheckpointLibrary, tmp_path: Path
) -> None:
    """From the number in the name it trained nothing and said done, or went on too far."""
    source, output = (
        tf1_checkpoint("mlp", number=number, **options),
        open_location(str(tmp_path / "out")),
    )
    ready = prepared(config_for(source, output, until_step=None, steps=4), output, None)
    assert isinstance(ready, Ready)
    assert (ready.start.step, ready.start.started_step, ready.plan.step, ready.start.until) == (
        3,
        3,
        3,
        7,
    )
    assert ready.policy.until == 7
    reached = prepared(config_for(source, output, until_step=3), output, None)
    assert isinstance(reached, StartPoint)
    assert reached.step == 3


@pytest.mark.tf
@pytest.mark.parametrize(
    ("options", "recorded", "cut"),
    [({}, None, False), ({"batches_per_step": 3}, None, True), ({}, 3, True)],
)
def test_one_worker_with_several_batches_in_a_step_gets_the_graph_of_a_group(
    options: dict[str, Any],
    recorded: int | None,
    cut: bool,
    tf1_checkpoint: CheckpointLibrary,
    tmp_path: Path,
) -> None:
    """Nothing was cut for it, and of each step's batches it applied the last one alone."""
    source, output = tf1_checkpoint("mlp"), open_location(str(tmp_path / "out"))
    record = (
        None
        if recorded is None
        else record_of(source).model_copy(update={"batches_per_step": recorded})
    )
    ready = prepared(config_for(source, output, workers=1, **options), output, record)
    assert isinstance(ready, Ready)
    assert ready.slots.count == (3 if cut else 1)
    assert [bool(target.dense) for target in ready.plan.graph.targets] == [cut]


def test_takeover_by_a_command_with_another_source_is_refused(tmp_path: Path) -> None:
    """It used to be adopted without a word: the old graph trained under the new name."""
    output = open_location(str(tmp_path / "out"))
    write_checkpoint(tmp_path / "one", "m-3", model(3))
    write_checkpoint(tmp_path / "two", "m-3", model(4))
    one, two = tmp_path / "one" / "m-3", tmp_path / "two" / "m-3"
    last = written(config_for(one, output))
    with pytest.raises(OutputError, match=r"holds a run of .*one.*, not of .*two"):
        refuse_others_workers(config_for(two, output), output, record_of(one), last)
    refuse_others_workers(config_for(f"{one}.meta", output), output, record_of(one), last)


def test_takeover_by_the_same_command_reads_nothing_of_the_source(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "out"))
    config = config_for(tmp_path / "gone" / "m-3", output)
    record = RunRecord(source="gone", fingerprint="f", name="m", started_step=3)
    refuse_others_workers(config, output, record, written(config))


@pytest.mark.parametrize(
    "changes", [{"input": "theirs:batches"}, {"feed": {"keep:0": "0.5"}}, {"seed": 7}]
)
def test_takeover_by_a_command_with_other_inputs_is_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    output = open_location(str(tmp_path / "out"))
    config = config_for(tmp_path / "m-3", output)
    record = RunRecord(source="s", fingerprint="f", name="m", started_step=3)
    with pytest.raises(ConfigError, match=f"other settings: {next(iter(changes))} is") as error:
        refuse_others_workers(config.model_copy(update=changes), output, record, written(config))
    assert "tfresume stop" in error.value.remedy


def test_takeover_by_a_command_that_only_drives_otherwise_goes_on(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "out"))
    config = config_for(tmp_path / "m-3", output)
    record = RunRecord(source="s", fingerprint="f", name="m", started_step=3)
    other = config.model_copy(
        update={"until_step": 5000, "save_steps": 7, "lease_s": 3.0, "address": "elsewhere:6379"}
    )
    refuse_others_workers(other, output, record, written(config))


def test_settings_that_only_the_driver_has_are_settings() -> None:
    assert set(RunConfig.model_fields) >= DRIVER_ONLY


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "is_completed"),
    [
        ({}, False),
        ({"freeze": ["hidden"]}, False),
        ({"freeze": ["hidden"], "reinit": ["hidden/*/Adam"]}, True),  # nothing reads these any more
        ({"swap_optimizer": "momentum"}, True),
    ],
    ids=str,
)
def test_one_worker_reads_for_all_where_initialisers_make_anything_that_is_saved(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path, flags: dict[str, Any], is_completed: bool
) -> None:
    output = open_location(str(tmp_path / "out"))
    config = config_for(tf1_checkpoint("mlp", optimizer="adam"), output, **flags)
    assert make_plan(config, start_point(config, output, None)).is_completed == is_completed
