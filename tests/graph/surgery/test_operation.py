"""What do the edits of a graph change, what do they refuse, and can each be undone?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver.edited_graph import edited_graph
from orchestrator.errors import ConfigError, CorruptCheckpoint, GraphRefused
from orchestrator.graph.gradients.training_writers import training_updates
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import merged
from orchestrator.graph.graphdef.undo import COLLECTION, without_edits
from orchestrator.graph.inference.kept_keys import expected_keys, key_roles
from orchestrator.graph.surgery.operation import Operated, operate
from orchestrator.store.checkpoints.source import resolve_source
from tests.graphs.library import CheckpointLibrary

pytestmark = pytest.mark.tf


def graph_of(prefix: Path) -> MetaGraphDef:
    return read_meta(Path(f"{prefix}.meta").read_bytes(), name=str(prefix))


def edited(prefix: Path, meta: MetaGraphDef | None = None, **flags: Any) -> Operated:
    keys = resolve_source(str(prefix)).keys()
    config = RunConfig(source=str(prefix), **flags)
    return operate(graph_of(prefix) if meta is None else meta, config, keys)


def same(one: MetaGraphDef, other: MetaGraphDef) -> bool:
    return one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)


EDITS: list[dict[str, Any]] = [
    {"swap_optimizer": "adam"},
    {"swap_optimizer": "sgd"},
    {"clip_global_norm": 1.0},
    {"freeze": ["out/*"]},
    {"set": {"Momentum/learning_rate:0": "0.5"}},
    {"swap_optimizer": "rmsprop", "freeze": ["hidden"], "clip_global_norm": 2.0},
]


@pytest.mark.parametrize("flags", EDITS, ids=str)
@pytest.mark.parametrize("resource", [False, True])
def test_edits_are_told_leave_the_given_graph_alone_and_are_undone_byte_for_byte(
    tf1_checkpoint: CheckpointLibrary, flags: dict[str, Any], resource: bool
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum", resource=resource)
    before = graph_of(prefix)
    given = graph_of(prefix)
    found = edited(prefix, given, **flags)

    assert same(given, before)
    assert len(found.done) == len(flags)
    assert not same(found.meta, before)
    assert same(without_edits(found.meta), before)


def test_edits_of_an_edited_graph_are_undone_one_after_the_other(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    once = edited(prefix, swap_optimizer="adam").meta
    twice = edited(prefix, once, freeze=["hidden"]).meta

    assert same(without_edits(twice), once)
    assert same(without_edits(without_edits(twice)), graph_of(prefix))


@pytest.mark.parametrize("flags", [{}, {"reset_step": 0}, {"freeze": ["hidden"]}], ids=str)
def test_another_runs_edits_stay_through_every_later_start_of_a_run_that_began_with_them(
    tf1_checkpoint: CheckpointLibrary, flags: dict[str, Any]
) -> None:
    """The second start without a flag used to undo what the other run had done."""
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    others = edited(prefix, swap_optimizer="adam").meta
    keys = resolve_source(str(prefix)).keys()
    config = RunConfig(source=str(prefix), **flags)
    saved = edited_graph(others, config, keys).meta
    for _ in range(2):
        plain = edited_graph(saved, RunConfig(source=str(prefix)), keys, of_this_run=True).meta
        assert same(without_edits(plain), others)
        saved = edited_graph(saved, config, keys, of_this_run=True).meta
        assert same(without_edits(saved), others)


def test_graph_without_a_flag_is_the_very_graph_and_so_is_one_never_edited(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    meta = graph_of(prefix)
    assert edited(prefix, meta).meta is meta
    assert without_edits(meta) is meta


def test_only_an_edit_of_the_graph_is_said_to_be_undone_by_leaving_its_flag_out(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    config = RunConfig(source=str(prefix), freeze=["hidden"], reset_step=0)
    frozen, begun = edited_graph(graph_of(prefix), config, None).problems
    assert frozen.message.startswith("as asked: froze")
    assert "Leave the flag out" in frozen.remedy
    assert begun.message.startswith("as asked: began")
    assert "another output" in begun.remedy


def test_an_edit_does_not_see_a_collection_that_is_dropped_and_what_is_saved_has_it_still(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    misleading = graph_of(prefix)
    dropped = "trainable_variables"
    del misleading.collection_def[dropped].bytes_list.value[1:]
    config = RunConfig(source=str(prefix), swap_optimizer="sgd", drop_collection=[dropped])
    keys = resolve_source(str(prefix)).keys()
    found = edited_graph(misleading, config, keys)
    assert found.edits == ("swapped the optimizer of 4 variables for GradientDescent",)
    assert dropped not in found.meta.collection_def
    assert found.saved.collection_def[dropped] == misleading.collection_def[dropped]
    assert same(without_edits(found.saved), misleading)
    with pytest.raises(ConfigError, match="nonesuch"):
        edited_graph(misleading, RunConfig(source="s", drop_collection=["nonesuch"]), keys)


def test_record_of_edits_is_not_dropped(tf1_checkpoint: CheckpointLibrary) -> None:
    """A later start found no such collection any more."""
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    others = edited(prefix, swap_optimizer="adam").meta
    config = RunConfig(source=str(prefix), drop_collection=[COLLECTION])
    with pytest.raises(ConfigError, match="tfresume's own record of how the graph was edited"):
        edited_graph(others, config, None)


@pytest.mark.parametrize("resource", [False, True])
def test_adam_on_rows_is_an_update_of_the_variable_that_is_trained_whatever_its_kind(
    tf1_checkpoint: CheckpointLibrary, resource: bool
) -> None:
    """A resource variable's moment is read by an operation that only waits for what writes it."""
    prefix = tf1_checkpoint("embedding", optimizer="adam", resource=resource)
    meta = graph_of(prefix)
    written = {"embedding/table", "out/kernel", "out/bias"}
    graph = Graph(meta, merged(meta))
    updates = training_updates(graph, written)
    assert {name for each in updates for name in graph.written_by(each)} == written
    assert len(updates) == 3


def test_damaged_record_of_edits_is_refused(tf1_checkpoint: CheckpointLibrary) -> None:
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    meta = edited(prefix, freeze=["hidden"]).meta
    meta.collection_def[COLLECTION].bytes_list.value[0] = b"bm90aGluZw=="
    with pytest.raises(CorruptCheckpoint, match="can't be read"):
        without_edits(meta)


REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("mlp", {}, {"freeze": ["nothing/*"]}, "nothing/*"),
    ("mlp", {}, {"freeze": ["*"]}, "all 4 variables"),
    ("mlp", {}, {"freeze": ["global_step"]}, "nothing but global_step"),
    ("mlp", {}, {"reinit": ["global_step"]}, "nothing but global_step"),
    ("mlp", {}, {"swap_optimizer": "adam"}, "has that optimizer already"),
    ("mlp", {}, {"set": {"nothing:0": "1"}}, "no such tensor"),
    ("mlp", {}, {"set": {"x:0": "1"}}, "it's fed (Placeholder)"),
    ("mlp", {}, {"set": {"loss:0": "1"}}, "computed from"),
    ("mlp", {}, {"set": {"out/kernel:0": "1"}}, "shape [16, 3]"),
    ("mlp", {}, {"set": {"Adam/learning_rate:0": "fast"}}, "no value of that type"),
    ("mlp", {}, {"set": {"Adam/learning_rate:0": "[1, 2]"}}, "has shape []"),
    ("mlp", {}, {"set": {"Adam/value:0": "0.5"}}, "no value of that type"),
    ("mlp", {}, {"rename": {"no/key": "out/bias"}}, "holds no no/key"),
    ("mlp", {}, {"rename": {"out/bias": "no/key"}}, "asks for no no/key"),
    ("mlp", {}, {"reinit": ["other"]}, "other"),
    ("mlp", {"optimizer": "sgd"}, {"reset_slots": True}, "no slots"),
    ("embedding", {}, {"swap_optimizer": "adam"}, "has that optimizer already"),
]


@pytest.mark.parametrize(("kind", "options", "flags", "said"), REFUSED)
def test_edit_that_cannot_be_made_names_what_forbids_it_and_changes_nothing(
    tf1_checkpoint: CheckpointLibrary,
    kind: str,
    options: dict[str, Any],
    flags: dict[str, Any],
    said: str,
) -> None:
    prefix = tf1_checkpoint(kind, **options)
    found = edited(prefix, **flags)

    (problem,) = found.problems
    assert (problem.code, problem.severity) == ("edit-refused", "error")
    assert said in problem.message
    assert problem.nodes or "reset_slots" in flags
    assert found.done == ()
    assert same(found.meta, graph_of(prefix))


def test_all_refusals_are_told_at_once(tf1_checkpoint: CheckpointLibrary) -> None:
    prefix = tf1_checkpoint("mlp")
    found = edited(prefix, freeze=["nothing"], set={"x:0": "1"}, reinit=["none"])
    assert [one.message.split()[0] for one in found.problems] == ["--freeze", "--set", "--reinit"]


def test_slots_of_a_partitioned_table_are_saved_as_its_parts_are(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    from orchestrator.graph.graphdef.edit import Editor
    from orchestrator.graph.graphdef.opset import merged
    from orchestrator.graph.variables.saver import read_saver
    from orchestrator.graph.variables.variables import find_variables

    prefix = tf1_checkpoint("embedding", optimizer="sgd", partitions=2)
    meta = edited(prefix, swap_optimizer="adagrad").meta
    graph = Editor(meta).graph(merged(meta))
    slots = {
        one.name: (one.key, one.slice_spec, one.slot_of)
        for one in find_variables(graph, read_saver(graph), None, set())
        if one.name.endswith("Adagrad")
    }
    part = "embedding/table/part_"
    assert slots["out/bias/Adagrad"] == ("out/bias/Adagrad", "", "out/bias")
    for number, rows in ((0, "0,10"), (1, "10,10")):
        wanted = ("embedding/table/Adagrad", f"20 8 {rows}:0,8", f"{part}{number}")
        assert slots[f"{part}{number}/Adagrad"] == wanted


@pytest.mark.parametrize(
    "edits",
    [
        [{"swap_optimizer": "sgd"}],
        [{"freeze": ["hidden", "out"]}],
        [{"swap_optimizer": "adam"}, {"swap_optimizer": "sgd"}, {}],
    ],
    ids=str,
)
def test_what_was_the_optimizers_before_an_edit_is_none_of_the_models_keys_after_it(
    tf1_checkpoint: CheckpointLibrary, edits: list[dict[str, Any]]
) -> None:
    """Nothing reads or writes it any more, and it was exported with the model."""
    prefix = tf1_checkpoint("mlp", optimizer="momentum")
    meta = graph_of(prefix)
    for flags in edits:
        meta = edited(prefix, meta, **flags).meta
    roles = key_roles(meta, expected_keys(meta, "edited"), "edited")
    layers = {"hidden/kernel", "hidden/bias", "out/kernel", "out/bias"}
    assert {key for key, role in roles.items() if role.kept} == layers
    old = {f"{key}/Momentum" for key in layers}
    assert {roles[key].role for key in old} == {"optimizer"}
    if len(edits) > 1:
        assert {"hidden/kernel/Adam", "beta1_power"} <= roles.keys() - layers


def test_roles_of_a_graph_whose_record_of_edits_is_damaged_are_refused(
    tf1_checkpoint: CheckpointLibrary,
) -> None:
    meta = edited(tf1_checkpoint("mlp", optimizer="momentum"), freeze=["hidden"]).meta
    meta.collection_def[COLLECTION].bytes_list.value[0] = b"torn"
    with pytest.raises(GraphRefused, match=COLLECTION) as refused:
        key_roles(meta, expected_keys(meta, "edited"), "edited")
    assert "--all" in refused.value.remedy
