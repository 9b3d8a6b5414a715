"""What would it take to train this graph, and what stands in the way?

Rule: pure functions over protos, in a fixed order: repair, names and devices, what trains, what is fed, what is random, where it's cut.
Problems are collected, never raised, so that an operator reads all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.checkpoint_keys import CheckpointKeys
from orchestrator.graph.cut import CutGraph, cut_graph
from orchestrator.graph.devices import DeviceReport, place
from orchestrator.graph.edit import Editor
from orchestrator.graph.feeding import NOTHING_KNOWN, Feeding, constants, feed_graph
from orchestrator.graph.fit import checkpoint_problems
from orchestrator.graph.global_step import find_step
from orchestrator.graph.initializers import local_initializers, table_initializers
from orchestrator.graph.nodes import Graph
from orchestrator.graph.opset import OpSet, merged
from orchestrator.graph.pipelines_dead import Outside
from orchestrator.graph.pipelines_paths import remap_paths, remote_paths, unused_prefixes
from orchestrator.graph.pipelines_running import python_functions
from orchestrator.graph.random_ops import RandomReport, make_random_ops_stateless
from orchestrator.graph.repair import repair
from orchestrator.graph.saver import SaverKeys, read_saver
from orchestrator.graph.scope import in_scope, without_scope
from orchestrator.graph.soundness import soundness_problems
from orchestrator.graph.sync_replicas import unwrap_accumulators
from orchestrator.graph.train_ops import Candidate, TrainChoice, choose_train_ops
from orchestrator.graph.variables import find_variables
from orchestrator.graph.watching import losses, scalar_summaries
from orchestrator.graph.worker_graph import Problem, TrainTarget, Variable, WorkerGraph


@dataclass(frozen=True)
class GraphPlan:
    """What ``plan`` found.

    Attributes:
        worker_graph: the graph ready to train, None where an error among ``problems`` prevents it.
        problems: all of them, errors and warnings.
        candidates: operations that train, best first.
        group_refused: why the graph runs on one worker only; empty where it can be cut.
        devices: what became of the saved devices.
    """

    worker_graph: WorkerGraph | None
    problems: tuple[Problem, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    group_refused: str = ""
    devices: DeviceReport = field(default_factory=DeviceReport)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that refuse the run."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def plan(
    meta: MetaGraphDef, config: RunConfig, *, checkpoint: CheckpointKeys | None = None, outside: Outside = NOTHING_KNOWN
) -> GraphPlan:
    """Everything that a worker needs to train ``meta`` as ``config`` asks, or every reason why it can't.

    Args:
        meta: as read; it isn't changed.
        checkpoint: what the checkpoint holds; None where that isn't known yet (then nothing is said about it).
        outside: what was found out about the graph's input pipelines where the workers will run.
    """
    asked, config = config, without_scope(config)
    original, repairs = repair(meta, config)
    unsound = soundness_problems(original, merged(original))
    if unsound:
        return GraphPlan(None, unsound)
    editor = Editor(original)
    devices = place(editor.meta, clear=config.clear_devices, device_map=config.device_map)
    moved = remap_paths(editor.meta, config.path_map)
    ops = merged(editor.meta)
    unwrapped = unwrap_accumulators(editor, Graph(editor.meta, ops))
    graph = Graph(editor.meta, ops)
    saver = read_saver(graph)
    variables = find_variables(graph, saver, checkpoint, set())
    if not variables:
        return GraphPlan(None, (_nothing_to_resume(),), devices=devices)
    trainable = {variable.name for variable in variables if variable.trainable}
    choice = choose_train_ops(graph, trainable, config.train_op)
    if not choice.targets:
        return GraphPlan(None, choice.problems, choice.candidates, devices=devices)
    targets = tuple(TrainTarget(op, ratio) for op, ratio in choice.targets)
    needed = graph.view.ancestors(target.op for target in targets)
    variables = tuple(replace(variable, needed=variable.name in needed) for variable in variables)
    fed = feed_graph(editor, graph, [target.op for target in targets], config, outside=outside)
    drawn = make_random_ops_stateless(editor, Graph(editor.meta, ops), [target.op for target in targets])
    cut = cut_graph(editor.meta, ops, _with_updates(graph, targets), fed.ports, constants(config))
    problems = [
        *choice.problems,
        *unwrapped,
        *unused_prefixes(config.path_map, moved),
        *fed.problems,
        *_group_problems(cut, config),
    ]
    if checkpoint is not None:
        problems.extend(checkpoint_problems(variables, checkpoint, config.init_missing))
    if any(problem.severity == "error" for problem in problems):
        return GraphPlan(None, tuple(problems), choice.candidates, cut.refused, devices)
    group = config.workers.largest > 1
    built = _Parts(original, repairs, editor.meta, ops, saver, variables, choice, fed, drawn)
    worker_graph = _build(built, cut if group else replace(cut, meta=editor.meta, targets=_with_updates(graph, targets)), config)
    return GraphPlan(in_scope(worker_graph, asked), tuple(problems), choice.candidates, cut.refused, devices)


@dataclass(frozen=True)
class _Parts:
    original: MetaGraphDef
    repairs: tuple[str, ...]
    meta: MetaGraphDef
    ops: OpSet
    saver: SaverKeys
    variables: tuple[Variable, ...]
    choice: TrainChoice
    fed: Feeding
    drawn: RandomReport


def _build(parts: _Parts, cut: CutGraph, config: RunConfig) -> WorkerGraph:
    graph = Graph(cut.meta, parts.ops)
    targets = [target.op for target in cut.targets]
    return WorkerGraph(
        meta=cut.meta.SerializeToString(),
        original_meta=parts.original.SerializeToString(),
        targets=cut.targets,
        inputs=parts.fed.ports,
        variables=parts.variables,
        saver_entries=parts.saver.entries,
        step=find_step(graph, targets),
        losses=losses(graph, targets, config.watch),
        scalar_summaries=scalar_summaries(graph, targets),
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
        group_refused=cut.refused,
        cut_rule=cut.rule,
        load_op_library=tuple(config.load_op_library),
    )


def _with_updates(graph: Graph, targets: Iterable[TrainTarget]) -> tuple[TrainTarget, ...]:
    found = []
    for target in targets:
        writers = graph.writers(sorted(graph.view.ancestors([target.op])))
        written = dict.fromkeys(graph.variable_of(writer) for writer in writers)
        found.append(replace(target, updates=tuple(name for name in written if name is not None)))
    return tuple(found)


def _nothing_to_resume() -> Problem:
    return Problem(
        "nothing-to-resume", "error", "the graph has no variables, so there is nothing to resume", "Name another .meta file"
    )


def _group_problems(cut: CutGraph, config: RunConfig) -> list[Problem]:
    if not cut.refused:
        return []
    message = f"this graph can't be trained by a group of workers: {cut.refused}"
    severity: Literal["error", "warning"] = "error" if config.workers.largest > 1 else "warning"
    return [Problem("group-refused", severity, message, "Run it with --workers 1", modes=("group",))]
