"""What is in this ``.meta``?

Rule: one pass of the same analysis that plans a run (``nodes``, ``variables``, ``train_ops``,
``inputs``), so that what is shown here is what would happen there. Nothing is refused: a graph that
can't be trained is described all the same, and of one whose wiring is damaged what stands in it
without following an edge. Linear in the graph's size. Whether its checkpoint fits stands in
``inspect_checkpoint``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.saver_pb2 import SaverDef

from orchestrator.config import RunConfig
from orchestrator.graph.entry_points import inputs
from orchestrator.graph.external_access import untrusted_ops
from orchestrator.graph.gradients.train_ops import TrainChoice, choose_train_ops
from orchestrator.graph.gradients.training_writers import training_updates
from orchestrator.graph.graphdef.constants import constant_strings
from orchestrator.graph.graphdef.library import every_node
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.importing.compat import compat_problems
from orchestrator.graph.importing.gc_pause import collector_paused
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.importing.soundness import soundness_problems
from orchestrator.graph.inference.outputs import rank_outputs
from orchestrator.graph.inputs.describe import describe
from orchestrator.graph.inspect_checkpoint import compared, state_in
from orchestrator.graph.inspect_report import (
    DeviceEntry,
    GraphOrigin,
    InputEntry,
    Inspection,
    OptimizerEntry,
    SaverEntryReport,
    Totals,
    VariableEntry,
)
from orchestrator.graph.problem import Problem
from orchestrator.graph.repetition.loss_to_show import losses_of_gradients
from orchestrator.graph.tables.sharding import shardable_in
from orchestrator.graph.tables.shares import Shares, shares
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.variables.global_step import find_step
from orchestrator.graph.variables.memory import variable_bytes
from orchestrator.graph.variables.saver import SaverKeys, read_saver
from orchestrator.graph.variables.variables import find_variables
from orchestrator.graph.worker_graph import Variable

LOSS_COLLECTION = "losses"
FREE = ""


def inspect(
    meta: MetaGraphDef,
    *,
    source: str,
    size_bytes: int,
    checkpoint: CheckpointKeys | None = None,
    clear_devices: bool = True,
    also: Iterable[Problem] = (),
) -> Inspection:
    """Describe a graph.

    Args:
        source: what the user called it, for the report.
        size_bytes: size of the file.
        checkpoint: what the checkpoint beside it holds, None where there is none.
        clear_devices: whether a run would clear the devices (``RunConfig.clear_devices``).
        also: what was found elsewhere and belongs into the same report (a damaged checkpoint).
    """
    with collector_paused():
        return _inspect(meta, source, size_bytes, checkpoint, clear_devices, also)


def _inspect(
    meta: MetaGraphDef,
    source: str,
    size_bytes: int,
    checkpoint: CheckpointKeys | None,
    clear_devices: bool,
    also: Iterable[Problem],
) -> Inspection:
    repaired = repair(meta, RunConfig(source=source))
    mended, ops = repaired.meta, repaired.ops
    graph = Graph(mended, ops)
    unsound = soundness_problems(mended, ops, graph.view, found=repaired.found)
    saver = SaverKeys() if unsound else read_saver(graph)
    variables = () if unsound else find_variables(graph, saver, checkpoint, set())
    updates = [] if unsound else training_updates(graph, _trainable(variables))
    choice = (
        TrainChoice() if unsound else choose_train_ops(graph, _trainable(variables), (), updates)
    )
    targets = [name for name, _ in choice.targets] or [
        candidate.op for candidate in choice.candidates
    ]
    needed = graph.view.ancestors(targets)
    entries = tuple(_variable(variable, checkpoint, needed) for variable in variables)
    entering = () if unsound else inputs(graph, needed)
    return Inspection(
        source=source,
        size_bytes=size_bytes,
        origin=_origin(meta, ops),
        totals=_totals(meta, entries),
        variables=entries,
        optimizers=_optimizers(graph, updates),
        train_ops=choice.candidates,
        chosen_train_ops=tuple(name for name, _ in choice.targets),
        step=find_step(graph, targets) if targets else None,
        losses=() if unsound else _losses(graph, targets),
        inputs=entering,
        outputs=() if unsound else rank_outputs(graph, _trainable(variables)),
        devices=_devices(mended, clear_devices),
        summaries=() if unsound else _summaries(graph),
        saver=_saver(mended, saver),
        checkpoint=None if checkpoint is None else compared(checkpoint, variables, entries, saver),
        collections={key: _entries(meta, key) for key in sorted(meta.collection_def)},
        reaching_out=untrusted_ops(
            mended.graph_def, ops, needed if unsound else _executed(graph, needed)
        ),
        problems=(
            *also,
            *unsound,
            *compat_problems(mended, ops, found=repaired.found),
            *choice.problems,
        ),
        repairs=repaired.done,
        shares=_shares(graph, variables, targets, entering) if needed else None,
    )


def _shares(
    graph: Graph, variables: Sequence[Variable], targets: Sequence[str], fed: Iterable[InputEntry]
) -> Shares:
    entering = (parse_tensor(item.name).node for item in fed)
    return shares(shardable_in(graph, variables, targets, fed=entering), variables)


def _trainable(variables: Iterable[Variable]) -> set[str]:
    return {variable.name for variable in variables if variable.trainable}


def _executed(graph: Graph, needed: set[str]) -> set[str]:
    """What training runs: the train ops' ancestors, and what fills the pipelines that they take
    batches from.
    """
    starters = [
        name
        for pipeline in describe(graph)
        if needed.intersection(pipeline.takers)
        for name in pipeline.starters
    ]
    tables = [
        name for name in graph.view.nodes if graph.view.op(name).startswith("InitializeTable")
    ]
    filled = [
        name for name in tables if graph.view.data[name] and graph.view.data[name][0].node in needed
    ]
    return needed | graph.view.ancestors([*starters, *filled])


def _origin(meta: MetaGraphDef, ops: OpSet) -> GraphOrigin:
    versions, info = meta.graph_def.versions, meta.meta_info_def
    return GraphOrigin(
        producer=versions.producer,
        min_consumer=versions.min_consumer,
        tensorflow=info.tensorflow_version,
        git=info.tensorflow_git_version,
        checked_against=ops.tensorflow,
        tags=tuple(info.tags),
        stripped_defaults=info.stripped_default_attrs,
    )


def _totals(meta: MetaGraphDef, variables: Iterable[VariableEntry]) -> Totals:
    counts: Counter[str] = Counter()
    function_nodes = 0
    for function, node in every_node(meta.graph_def):
        counts[node.op] += 1
        function_nodes += bool(function)
    every = list(variables)
    return Totals(
        nodes=len(meta.graph_def.node),
        functions=len(meta.graph_def.library.function),
        function_nodes=function_nodes,
        op_types=dict(counts.most_common()),
        variables=len(every),
        variable_bytes=sum(variable.size_bytes or 0 for variable in every),
        trainable_bytes=sum(variable.size_bytes or 0 for variable in every if variable.trainable),
    )


def _variable(
    variable: Variable, checkpoint: CheckpointKeys | None, needed: set[str]
) -> VariableEntry:
    return VariableEntry(
        name=variable.name,
        kind=variable.kind,
        dtype=variable.dtype,
        shape=variable.shape,
        size_bytes=variable_bytes(variable),
        trainable=variable.trainable,
        local=variable.local,
        slot_of=variable.slot_of,
        part_of=variable.key if variable.slice_spec else None,
        key=variable.key,
        in_checkpoint=state_in(variable, checkpoint),
        needed=variable.name in needed,
    )


def _optimizers(graph: Graph, updates: Iterable[str]) -> tuple[OptimizerEntry, ...]:
    found: dict[tuple[str, str], list[str]] = {}
    for name in updates:
        variable = graph.variable_of(name)
        scope = _optimizer_scope(name, variable)
        found.setdefault((graph.view.op(name), scope), []).append(variable or name)
    return tuple(
        OptimizerEntry(op_type, scope, tuple(dict.fromkeys(names)))
        for (op_type, scope), names in found.items()
    )


def _optimizer_scope(update: str, variable: str | None) -> str:
    """``train/Adam`` of ``train/Adam/update_layer/kernel/ApplyAdam``: what stands before
    ``/update_VARIABLE``.
    """
    if variable is not None and f"/update_{variable}/" in update:
        return update.partition(f"/update_{variable}/")[0]
    return update.partition("/update_")[0] if "/update_" in update else update.rpartition("/")[0]


def _losses(graph: Graph, targets: Sequence[str]) -> tuple[str, ...]:
    """The losses collection's, else what the chosen train operations follow the gradient of."""
    if LOSS_COLLECTION in graph.meta.collection_def:
        names = graph.meta.collection_def[LOSS_COLLECTION].node_list.value
        return tuple(dict.fromkeys(name for name in names if parse_tensor(name).node in graph.view))
    return losses_of_gradients(graph, targets) if targets else ()


def _devices(meta: MetaGraphDef, clear: bool) -> tuple[DeviceEntry, ...]:
    inside: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for function, node in every_node(meta.graph_def):
        (inside if function else outside)[node.device] += 1
    named = sorted((set(inside) | set(outside)) - {FREE})
    return tuple(
        DeviceEntry(device, outside[device], inside[device], FREE if clear else device)
        for device in named
    )


def _summaries(graph: Graph) -> tuple[tuple[str, str], ...]:
    """(tag, operation type) of every summary in the graph."""
    found: list[tuple[str, str]] = []
    for name, op in graph.view.ops.items():
        if op.endswith(("Summary", "SummaryV2")) and op != "MergeSummary" and graph.view.data[name]:
            tags = constant_strings(graph.view, graph.view.data[name][0]) or [name]
            found.extend((tag, op) for tag in tags)
    return tuple(found)


def _saver(meta: MetaGraphDef, saver: SaverKeys) -> SaverEntryReport:
    definition = meta.saver_def
    return SaverEntryReport(
        format=SaverDef.CheckpointFormatVersion.Name(definition.version)
        if definition.version in (0, 1, 2)
        else "unknown",
        sharded=definition.sharded,
        max_to_keep=definition.max_to_keep,
        keep_every_hours=definition.keep_checkpoint_every_n_hours,
        variables=len(saver.variables),
        others=len(saver.entries),
        usable=saver.found,
    )


def _entries(meta: MetaGraphDef, key: str) -> int:
    collection = meta.collection_def[key]
    kind = collection.WhichOneof("kind")
    return 0 if kind is None else len(getattr(collection, kind).value)
