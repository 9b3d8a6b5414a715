"""What would it take to train this graph, and what stands in the way?

Rule: pure functions over protos, in a fixed order: repair, names and devices, what trains, what is
fed, what is random, where it's cut. Problems are collected, never raised, so that an operator reads
all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.cut import CutGraph, cut_graph, guard_graph
from orchestrator.graph.gradients.sync_replicas import unwrap_accumulators
from orchestrator.graph.gradients.train_candidates import TrainOp
from orchestrator.graph.gradients.train_ops import TrainChoice, choose_train_ops
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.importing.collectives import waiting_in_collectives
from orchestrator.graph.importing.devices import DeviceReport, place
from orchestrator.graph.importing.gc_pause import collector_paused
from orchestrator.graph.importing.import_scope import in_scope, without_scope
from orchestrator.graph.importing.repair import Repaired, repair
from orchestrator.graph.importing.soundness import soundness_problems
from orchestrator.graph.inputs.batches_of_runs import batches_of_runs
from orchestrator.graph.inputs.diagnosis import Outside
from orchestrator.graph.inputs.feed_plan import NOTHING_KNOWN, Feeding, constants, feed_graph
from orchestrator.graph.inputs.path_map import remap_paths, remote_paths, unused_prefixes
from orchestrator.graph.inputs.runnable import python_functions
from orchestrator.graph.inputs.staging import without_staging
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.problem import Problem
from orchestrator.graph.random.random_ops import (
    RandomReport,
    make_random_ops_stateless,
    random_problems,
)
from orchestrator.graph.repetition.loss_to_show import loss_to_show
from orchestrator.graph.repetition.scale_problems import scale_problems
from orchestrator.graph.tables.choosing import divide_tables
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.variables.fit import checkpoint_problems
from orchestrator.graph.variables.global_step import find_step
from orchestrator.graph.variables.initializers import local_initializers, table_initializers
from orchestrator.graph.variables.memory import FreeMemory
from orchestrator.graph.variables.saver import SaverKeys, read_saver
from orchestrator.graph.variables.variables import find_variables
from orchestrator.graph.watching import (
    losses,
    scalar_summaries,
    unwatchable,
    unweighable,
    weight_of,
)
from orchestrator.graph.worker_graph import TrainTarget, Variable, WorkerGraph


@dataclass(frozen=True)
class GraphPlan:
    """What ``plan`` found.

    Attributes:
        worker_graph: the graph ready to train, None where an error among ``problems`` prevents it.
        problems: all of them, errors and warnings.
        candidates: operations that train, best first.
        group_refused: why the graph runs on one worker only; empty where it can be cut.
        devices: what became of the saved devices.
        whole: the graph as it is before any table is divided among workers.
        held: variables as the worker holds them that has most rows of divided tables.
    """

    worker_graph: WorkerGraph | None
    problems: tuple[Problem, ...] = ()
    candidates: tuple[TrainOp, ...] = ()
    group_refused: str = ""
    devices: DeviceReport = field(default_factory=DeviceReport)
    whole: WorkerGraph | None = None
    held: tuple[Variable, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that refuse the run."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def plan(
    meta: MetaGraphDef,
    config: RunConfig,
    *,
    checkpoint: CheckpointKeys | None = None,
    outside: Outside = NOTHING_KNOWN,
    repaired: Repaired | None = None,
    loading: Loading = AS_SAVED,
    memory: FreeMemory | None = None,
) -> GraphPlan:
    """Everything that a worker needs to train ``meta`` as ``config`` asks, or every reason why it
    can't.

    Args:
        meta: as read; it isn't changed.
        checkpoint: what the checkpoint holds, seen through ``loading``; None where that isn't known
            yet (then nothing is said about it).
        outside: what was found out about the graph's input pipelines where the workers will run.
        repaired: ``repair(meta, config)`` where it's known already.
        loading: how the source's checkpoint is read.
        memory: what the workers have; None where that isn't known.
    """
    with collector_paused():
        found = _plan(repaired or repair(meta, config), config, checkpoint, outside, loading)
    if found.whole is None:
        return found
    tables = divide_tables(found.whole, config, memory, checkpoint)
    problems = (*found.problems, *tables.problems)
    return replace(found, worker_graph=tables.graph, problems=problems, held=tables.held)


def _plan(
    repaired: Repaired,
    config: RunConfig,
    checkpoint: CheckpointKeys | None,
    outside: Outside,
    loading: Loading,
) -> GraphPlan:
    asked, config = config, without_scope(config)
    original, ops = repaired.meta, repaired.ops
    editor = Editor(original)
    unsound = soundness_problems(editor.meta, ops, editor.graph(ops).view, found=repaired.found)
    if unsound:
        return GraphPlan(None, unsound)
    devices = place(editor.meta, clear=config.clear_devices, device_map=config.device_map)
    moved = remap_paths(editor.meta, config.path_map)
    unwrapped = unwrap_accumulators(editor, editor.graph(ops))
    saver = read_saver(editor.graph(ops))
    variables = find_variables(editor.graph(ops), saver, checkpoint, set())
    if not variables:
        return GraphPlan(None, (_nothing_to_resume(),), devices=devices)
    trainable = {variable.name for variable in variables if variable.trainable}
    choice = choose_train_ops(editor.graph(ops), trainable, config.train_op)
    if not choice.targets:
        return GraphPlan(None, choice.problems, choice.candidates, devices=devices)
    targets = _targets(editor.graph(ops), choice)
    needed = editor.graph(ops).view.ancestors(target.op for target in targets)
    variables = tuple(replace(variable, needed=variable.name in needed) for variable in variables)
    parts = _complete(
        _Parts(editor, ops, original, repaired.done, saver, variables, targets), config, outside
    )
    cut = parts.cut
    problems = [
        *choice.problems,
        *unwrapped,
        *unused_prefixes(config.path_map, moved),
        *waiting_in_collectives(editor.graph(ops), needed),
        *parts.staged,
        *parts.fed.problems,
        *random_problems(parts.drawn.stateful),
        *_group_problems(cut, config),
        *unwatchable(
            editor.graph(ops), (target.op for target in parts.targets), config.watch, _given(config)
        ),
        *unweighable(
            editor.graph(ops),
            (target.op for target in parts.targets),
            config.weight_by,
            _given(config),
        ),
    ]
    if checkpoint is not None:
        problems.extend(
            checkpoint_problems(variables, checkpoint, config.init_missing, loading.anew)
        )
    if any(problem.severity == "error" for problem in problems):
        return GraphPlan(None, tuple(problems), choice.candidates, cut.refused, devices)
    graph = in_scope(replace(_build(parts, config), loading=loading), asked)
    return GraphPlan(
        graph, tuple(problems), choice.candidates, cut.refused, devices, graph, graph.variables
    )


@dataclass(frozen=True)
class _Parts:
    editor: Editor
    ops: OpSet
    original: MetaGraphDef
    repairs: tuple[str, ...]
    saver: SaverKeys
    variables: tuple[Variable, ...]
    targets: tuple[TrainTarget, ...]
    staged: tuple[Problem, ...] = ()
    fed: Feeding = field(default_factory=lambda: Feeding(()))
    drawn: RandomReport = field(default_factory=RandomReport)
    cut: CutGraph = field(default_factory=lambda: CutGraph((), ""))


def _complete(parts: _Parts, config: RunConfig, outside: Outside) -> _Parts:
    """Cut the inputs, the random operations and the gradients; for one batch a step the cuts are
    only looked at, on a copy.
    """
    editor, ops = parts.editor, parts.ops
    names = [target.op for target in parts.targets]
    staged = without_staging(editor, editor.graph(ops), names)
    parts = replace(parts, staged=tuple(staged))
    fed = feed_graph(editor, editor.graph(ops), names, config, outside=outside)
    drawn = make_random_ops_stateless(editor, editor.graph(ops), names)
    group = config.workers.largest > 1
    cutting = editor if group else Editor(editor.meta)
    cut = cut_graph(cutting, ops, parts.targets, fed.ports, constants(config))
    # One worker adds up several batches of a step at the same seams as many workers do
    if group or (config.exchanges and not cut.refused):
        return replace(parts, editor=cutting, fed=fed, drawn=drawn, cut=cut, targets=cut.targets)
    editor, targets = guard_graph(editor, ops, parts.targets)
    return replace(parts, editor=editor, fed=fed, drawn=drawn, cut=cut, targets=targets)


def _build(parts: _Parts, config: RunConfig) -> WorkerGraph:
    graph = parts.editor.graph(parts.ops)
    targets = [target.op for target in parts.targets]
    summaries = scalar_summaries(graph, targets)
    return WorkerGraph(
        meta=graph.meta.SerializeToString(),
        original_meta=parts.original.SerializeToString(),
        targets=parts.targets,
        inputs=parts.fed.ports,
        variables=parts.variables,
        saver_entries=parts.saver.entries,
        step=find_step(graph, targets),
        losses=losses(graph, targets, config.watch, _given(config))
        or loss_to_show(graph, targets, summaries),
        scalar_summaries=summaries,
        weight=weight_of(graph, config.weight_by),
        table_initializers=table_initializers(graph, targets),
        local_initializers=local_initializers(parts.variables),
        pipeline_initializers=parts.fed.running.initializers,
        queue_runners=parts.fed.running.queue_runners,
        pipelines=parts.fed.running.iterators,
        queues=parts.fed.running.queues,
        py_funcs=python_functions(graph),
        remote_paths=remote_paths(config.path_map, graph.meta),
        random_nodes=parts.drawn.stateless,
        stateful_random=parts.drawn.stateful,
        rng_feed=parts.drawn.rng_feed,
        group_rng_feed=parts.drawn.group_rng_feed,
        repairs=parts.repairs,
        group_refused=parts.cut.refused,
        cut_rule=parts.cut.rule,
        load_op_library=tuple(config.load_op_library),
        run_batches=batches_of_runs(
            parts.targets, parts.fed.ports, constants(config), config.cycle_batches
        ),
    )


def _given(config: RunConfig) -> frozenset[str]:
    """What is fed whether training needs it or not."""
    return frozenset((*config.feed, *config.array))


def _targets(graph: Graph, choice: TrainChoice) -> tuple[TrainTarget, ...]:
    return _with_updates(graph, (TrainTarget(op, ratio) for op, ratio in choice.targets))


def _with_updates(graph: Graph, targets: Iterable[TrainTarget]) -> tuple[TrainTarget, ...]:
    found = []
    for target in targets:
        writers = graph.writers(sorted(graph.view.ancestors([target.op])))
        written = dict.fromkeys(
            variable for writer in writers for variable in graph.written_by(writer)
        )
        found.append(replace(target, updates=tuple(written)))
    return tuple(found)


def _nothing_to_resume() -> Problem:
    return Problem(
        "nothing-to-resume",
        "error",
        "the graph has no variables, so there is nothing to resume",
        "Name another .meta file",
    )


def _group_problems(cut: CutGraph, config: RunConfig) -> list[Problem]:
    if not cut.refused:
        several = config.workers.largest > 1 or (config.batches_per_step or 1) > 1
        found = scale_problems(cut.targets, config.gradient_scale or "auto") if several else []
        # A weight is the answer to a count that follows from the data
        return [item for item in found if not (config.weight_by and item.code == "masked-loss")]
    message = f"this graph can't be trained by a group of workers: {cut.refused}"
    severity: Literal["error", "warning"] = "error" if config.workers.largest > 1 else "warning"
    return [
        Problem("group-refused", severity, message, "Run it with --workers 1", modes=("group",))
    ]
