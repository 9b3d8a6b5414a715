"""Does an edited graph train what plain TensorFlow 1 code with the same edit trains?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.driver.edited_graph import Edited, edited_graph
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import plan
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.state.state import State
from tests.graphs.feeds import feeds_for
from tests.graphs.library import CheckpointLibrary
from tests.training import plain_edits
from tests.training.comparing import assert_identical
from tests.training.conftest import NewRanks

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]
STEPS, SLOTS = 6, 2


def edited(prefix: Path, workers: int, **flags: Any) -> tuple[Edited, WorkerGraph]:
    """The edited graph, planned for these workers and two batches a step."""
    config = RunConfig(
        source=str(prefix), workers=workers, batches_per_step=SLOTS, input="tests:none", **flags
    )
    keys = resolve_source(str(prefix)).keys()
    meta = read_meta(Path(f"{prefix}.meta").read_bytes(), name=str(prefix))
    found = edited_graph(meta, config, keys)
    refused = [one.message for one in found.problems if one.severity == "error"]
    assert not refused, refused
    planned = plan(found.meta, config, checkpoint=found.checkpoint, loading=found.loading)
    assert planned.worker_graph is not None, [one.message for one in planned.errors]
    return found, found.told_in(planned.worker_graph)


def batches_of(kind: str) -> list[list[Mapping[str, Any]]]:
    serve = feeds_for(kind)
    return [[serve(100 + step * SLOTS + slot) for slot in range(SLOTS)] for step in range(STEPS)]


def trained(new_ranks: NewRanks, prefix: Path, kind: str, workers: int, **flags: Any) -> State:
    """The state after the steps, the same on every rank."""
    ranks = new_ranks(workers)
    graph = edited(prefix, workers, **flags)[1]
    options = TrainingOptions(batches_per_step=SLOTS, gradient_scale="auto", deterministic=True)
    ranks.load(graph, options)
    start: State = ranks.processes[0].call("load_checkpoint", str(prefix))
    ranks.form(position=0)
    ranks.assign(start)
    for batch in batches_of(kind):
        ranks.step(batch)
    states = ranks.states()
    for state in states[1:]:
        assert_identical(state, states[0])
    return states[0]


def in_code(
    new_ranks: NewRanks, prefix: Path, kind: str, options: Mapping[str, Any], **more: Any
) -> Any:
    """The variables of plain TensorFlow after the same steps."""
    joint = [
        {key: np.concatenate([part[key] for part in batch]) for key in batch[0]}
        for batch in batches_of(kind)
    ]
    return (
        new_ranks(1)
        .processes[0]
        .call(*("function", plain_edits.written_in_code, kind, options, str(prefix), joint), **more)
    )


def assert_equal(state: State, wanted: Mapping[str, np.ndarray], names: Sequence[str] = ()) -> None:
    """Each of the plain process's variables, to 1e-6 of its largest value."""
    for name in names or wanted:
        value, found = wanted[name].astype(np.float64), state.arrays[name].astype(np.float64)
        allowed = 2.4e-7 + 1e-6 * float(np.max(np.abs(value), initial=0.0))
        difference = float(np.max(np.abs(found - value), initial=0.0))
        assert difference <= allowed, (name, difference, allowed)


NEW_STATE = {
    "sgd": [],
    "momentum": ["out/kernel/Momentum"],
    "adam": ["out/kernel/Adam", "out/kernel/Adam_1", "beta1_power", "beta2_power"],
    "adagrad": ["out/kernel/Adagrad"],
    "rmsprop": ["out/kernel/RMSProp", "out/kernel/RMSProp_1"],
}
SWAPS = [
    ("mlp", "momentum", "adam", False),
    ("mlp", "sgd", "adam", True),
    ("mlp", "adam", "momentum", True),
    ("mlp", "adam", "sgd", False),
    ("mlp", "rmsprop", "adagrad", False),
    ("mlp", "adagrad", "rmsprop", True),
    ("embedding", "momentum", "adam", False),
    ("embedding", "sgd", "adam", True),
    ("embedding", "sgd", "momentum", False),
    ("embedding", "momentum", "sgd", True),
    ("embedding", "adam", "rmsprop", False),
    ("embedding", "adam", "momentum", True),
]


@pytest.mark.parametrize(("kind", "old", "new", "resource"), SWAPS)
def test_swapped_optimizer_trains_what_the_same_optimizer_in_code_trains_on_one_and_two_workers(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    kind: str,
    old: str,
    new: str,
    resource: bool,
) -> None:
    prefix = tf1_checkpoint(kind, optimizer=old, resource=resource)
    wanted = in_code(new_ranks, prefix, kind, {"optimizer": new, "resource": resource})
    one = trained(new_ranks, prefix, kind, 1, swap_optimizer=new)
    two = trained(new_ranks, prefix, kind, 2, swap_optimizer=new)

    assert_identical(one, two)
    assert set(NEW_STATE[new]) <= wanted.keys()
    assert_equal(one, wanted)


@pytest.mark.parametrize(
    ("kind", "optimizer", "resource"),
    [
        ("mlp", "momentum", True),
        ("embedding", "momentum", False),
        ("embedding", "adam", False),
        ("embedding", "adam", True),
    ],
)
def test_clipped_by_a_flag_equals_clip_by_global_norm_in_code(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    kind: str,
    optimizer: str,
    resource: bool,
) -> None:
    prefix = tf1_checkpoint(kind, optimizer=optimizer, resource=resource)
    options = {"optimizer": optimizer, "resource": resource}
    wanted = in_code(new_ranks, prefix, kind, {**options, "clip": True})
    free = in_code(new_ranks, prefix, kind, options)
    one = trained(new_ranks, prefix, kind, 1, clip_global_norm=0.1)
    two = trained(new_ranks, prefix, kind, 2, clip_global_norm=0.1)

    assert_identical(one, two)
    assert_equal(one, wanted)
    with pytest.raises(AssertionError):  # the limit is one that these gradients reach
        assert_equal(one, free)


@pytest.mark.parametrize(
    ("optimizer", "resource", "clip"), [("adam", False, True), ("momentum", True, False)]
)
def test_frozen_variables_keep_their_bytes_and_the_rest_trains_as_if_the_optimizer_had_not_got_them(
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    optimizer: str,
    resource: bool,
    clip: bool,
) -> None:
    options = {"optimizer": optimizer, "resource": resource, "clip": clip}
    prefix = tf1_checkpoint("mlp", **options)
    wanted = in_code(new_ranks, prefix, "mlp", options, frozen="hidden")
    graph = edited(prefix, 2, freeze=["hidden/*"])[1]
    one = trained(new_ranks, prefix, "mlp", 1, freeze=["hidden/*"])
    two = trained(new_ranks, prefix, "mlp", 2, freeze=["hidden/*"])
    start: State = new_ranks(1).start(prefix, workers=1)

    assert_identical(one, two)
    held = [name for name in start.arrays if name.startswith("hidden/")]
    assert len(held) == (6 if optimizer == "adam" else 4)  # two weights and their slots
    for name in held:
        assert one.arrays[name].tobytes() == start.arrays[name].tobytes(), name
    assert_equal(one, wanted, [name for name in wanted if not name.startswith("hidden/")])
    # neither a gradient of theirs is exchanged nor a slot of theirs read
    assert len(graph.targets[0].dense) == 2
    assert not any(name.startswith("hidden") for name in graph.targets[0].updates)
    assert not any(v.needed for v in graph.variables if v.name.startswith("hidden/") and v.slot_of)


def test_what_is_saved_with_edits_is_loaded_and_trained_by_plain_tensorflow(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    for resource in (False, True):
        prefix = tf1_checkpoint("mlp", optimizer="momentum", resource=resource)
        ranks = new_ranks(1)
        flags = {"swap_optimizer": "adam", "clip_global_norm": 0.1, "freeze": ["hidden/bias"]}
        graph = edited(prefix, 1, **flags)[1]
        ranks.load(graph, TrainingOptions(batches_per_step=SLOTS, gradient_scale="auto"))
        start: State = ranks.processes[0].call("load_checkpoint", str(prefix))
        ranks.form(position=0)
        ranks.assign(start)
        *first, last = batches_of("mlp")
        for batch in first:
            ranks.step(batch)
        room = tmp_path / str(resource)
        room.mkdir()
        written = ranks.processes[0].call("apply", plain_edits.saved, str(room), "model.ckpt-8")
        state = ranks.states()[0]
        ranks.step(last)
        joint = {key: np.concatenate([part[key] for part in last]) for key in last[0]}
        before, after = (
            new_ranks(1)
            .processes[0]
            .call(
                "function", plain_edits.restored_in_three_lines, written, joint, graph.targets[0].op
            )
        )

        assert {"out/kernel/Adam", "beta1_power", "hidden/bias/Momentum"} <= before.keys()
        for name, value in before.items():
            assert value.tobytes() == state.arrays[name].tobytes(), name
        assert_equal(ranks.states()[0], after)


def test_set_rate_trains_as_if_it_stood_in_the_code(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    as_it_is = trained(new_ranks, prefix, "mlp", 1)
    rate = {"set": {"Adam/learning_rate:0": "0"}}
    still = trained(new_ranks, prefix, "mlp", 1, **rate)
    start: State = new_ranks(1).start(prefix, workers=1)

    assert still.arrays["out/kernel"].tobytes() == start.arrays["out/kernel"].tobytes()
    assert as_it_is.arrays["out/kernel"].tobytes() != start.arrays["out/kernel"].tobytes()
    assert still.arrays["out/kernel/Adam"].tobytes() != start.arrays["out/kernel/Adam"].tobytes()


def test_first_start_takes_other_keys_initialises_what_is_named_and_begins_at_another_step(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    flags = {
        "reinit": ["hidden"],
        "reset_slots": True,
        "reset_step": 40,
        "rename": {"out/bias/Adam": "out/bias"},
    }
    ranks = new_ranks(1)
    plain: State = ranks.start(prefix, workers=1)
    found, graph = edited(prefix, 1, **flags)
    ranks.load(graph, TrainingOptions())
    start: State = ranks.processes[0].call("load_checkpoint", str(prefix))
    own: State = ranks.processes[0].call("load_checkpoint", str(prefix), of_source=False)

    assert start.step == 40
    assert start.arrays["global_step"] == 40
    assert not start.arrays["out/kernel/Adam"].any()
    assert plain.arrays["out/kernel/Adam"].any()
    assert not start.arrays["hidden/bias"].any()
    assert plain.arrays["hidden/bias"].any()
    assert start.arrays["beta1_power"] == np.float32(0.9)
    assert start.arrays["out/bias"].tobytes() == plain.arrays["out/bias/Adam"].tobytes()
    assert start.arrays["out/kernel"].tobytes() == plain.arrays["out/kernel"].tobytes()
    assert_identical(own, plain)  # what the run itself saved is read as it is
    told = "; ".join(found.edits)
    assert "began at step 40" in told
    assert "out/bias/Adam as out/bias" in told


def test_restore_only_takes_what_fits_and_the_step_and_initialises_the_rest(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum", resource=True)
    ranks = new_ranks(1)
    plain: State = ranks.start(prefix, workers=1)
    graph = edited(prefix, 1, restore_only=["hidden/*"])[1]
    ranks.load(graph, TrainingOptions())
    start: State = ranks.processes[0].call("load_checkpoint", str(prefix))

    assert start.arrays["hidden/kernel"].tobytes() == plain.arrays["hidden/kernel"].tobytes()
    assert start.arrays["hidden/bias/Momentum"].any()
    assert not start.arrays["out/bias"].any()
    assert plain.arrays["out/bias"].any()
    assert start.step == plain.step == 3


def test_what_training_does_not_need_is_initialised_too_so_that_plain_tensorflow_restores_all(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    """The frozen variables' slots, which nothing reads any more, are in the graph's saver."""
    prefix = tf1_checkpoint("mlp", optimizer="adam")
    ranks = new_ranks(1)
    graph = edited(prefix, 1, freeze=["hidden"], reinit=["hidden/*/Adam"])[1]
    ranks.load(graph, TrainingOptions())
    start: State = ranks.processes[0].call("load_checkpoint", str(prefix))
    ranks.form(position=0)
    ranks.assign(start)
    written = ranks.processes[0].call("apply", plain_edits.saved, str(tmp_path), "model.ckpt-3")
    batch, op = batches_of("mlp")[0][0], graph.targets[0].op
    before, _ = (
        new_ranks(1)
        .processes[0]
        .call("function", plain_edits.restored_in_three_lines, written, batch, op)
    )

    assert not any(v.needed for v in graph.variables if v.name == "hidden/kernel/Adam")
    assert not before["hidden/kernel/Adam"].any()
    assert before["hidden/kernel/Adam_1"].any()
    broken = tuple(
        replace(v, initializer="x") if v.name == "hidden/kernel/Adam" else v
        for v in graph.variables
    )
    ranks.load(replace(graph, variables=broken), TrainingOptions())
    without: State = ranks.processes[0].call("load_checkpoint", str(prefix))
    assert start.arrays.keys() - without.arrays.keys() == {"hidden/kernel/Adam"}
