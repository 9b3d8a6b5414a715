"""Which of the pipelines that a run takes batches from can run, and what makes each rank get its
own part?

Rule: a pipeline runs where nothing speaks against it (``diagnosis``); then its order is
settled and it is shared out by rank. For every other one there is one problem per cause, naming
what to supply instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.inputs.bodies import Bodies, NodePlace
from orchestrator.graph.inputs.describe import describe, members
from orchestrator.graph.inputs.diagnosis import (
    Facts,
    Outside,
    PipelineProblem,
    dead_pipeline,
    problems_of,
)
from orchestrator.graph.inputs.ordering import settle_order
from orchestrator.graph.inputs.pipeline import Pipeline, PythonCall
from orchestrator.graph.inputs.portable import Runner, read_pipelines
from orchestrator.graph.inputs.queues import share_queue
from orchestrator.graph.inputs.sharding import shard_iterator, shards_by_file
from orchestrator.graph.inputs.sources import python_calls, python_places, revived_tokens
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_pipelines import LivePipeline, LiveQueue, PythonFunction


@dataclass(frozen=True)
class Running:
    """What becomes of the pipelines that were asked about.

    Attributes:
        live: Dequeue and GetNext nodes whose pipelines run.
        initializers: what initialises live iterators that aren't shared out.
        queue_runners: what fills live queues.
        iterators, queues: how each rank gets its part.
        dead: Dequeue, GetNext and ReaderRead nodes that no pipeline described here explains, with
            the reason why they can't run.
    """

    live: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()
    initializers: tuple[str, ...] = ()
    queue_runners: tuple[Runner, ...] = ()
    iterators: tuple[LivePipeline, ...] = ()
    queues: tuple[LiveQueue, ...] = ()
    dead: Mapping[str, str] = field(default_factory=dict)


def run_pipelines(
    editor: Editor,
    graph: Graph,
    takers: Collection[str],
    config: RunConfig,
    *,
    outside: Outside,
    supplied: Callable[[str], bool],
) -> Running:
    """Make the pipelines behind ``takers`` run; the editor's graph changes in place.

    Args:
        graph: as the editor has it.
        takers: the Dequeue and GetNext nodes that nobody supplies with batches.
        outside: what was found out where the workers will run.
        supplied: whether the user supplies a tensor.
    """
    wanted = [
        pipeline for pipeline in describe(graph) if not set(takers).isdisjoint(pipeline.takers)
    ]
    facts = Facts(revived_tokens(graph.meta.graph_def, config.py_func), outside, supplied)
    read = read_pipelines(graph, takers, facts.functions)
    live: list[Pipeline] = []
    problems: list[Problem] = []
    for pipeline in wanted:
        causes = problems_of(pipeline, facts) or _cause_read(pipeline, read.dead)
        problems.extend(dead_pipeline(pipeline, cause, facts) for cause in causes)
        if not causes:
            live.append(pipeline)
    # What the graph alone could run and the files, say, forbid isn't pulled either
    dead = {taker for pipeline in wanted if pipeline not in live for taker in pipeline.takers}
    iterators = _share_iterators(
        editor, graph, [pipeline for pipeline in live if pipeline.kind == "iterator"], config
    )
    queues = {
        pipeline: share_queue(editor, graph, pipeline, config.seed)
        for pipeline in live
        if pipeline.kind == "queue"
    }
    problems.extend(
        problem
        for pipeline, queue in queues.items()
        for problem in _queue_warnings(pipeline, queue, config)
    )
    # The starters of what is shared out take the rank's part, and are run with it
    started = {pipeline.starter for pipeline in iterators}
    return Running(
        live=frozenset(read.live - dead),
        problems=tuple(problems),
        initializers=tuple(name for name in read.initializers if name not in started),
        queue_runners=tuple(
            runner for runner in read.queue_runners if not _fills_dead(runner, wanted, live)
        ),
        iterators=iterators,
        queues=tuple(queues.values()),
        dead={
            taker: reason
            for taker, reason in read.dead.items()
            if not any(taker in pipeline.takers for pipeline in wanted)
        },
    )


def python_functions(graph: Graph) -> tuple[PythonFunction, ...]:
    """Every ``py_func`` of the graph and its function bodies, with what its Python function has to
    return.
    """
    calls = list(python_calls(python_places(graph.meta.graph_def)))
    following = {
        call.generator: call.token
        for call in calls
        if call.generator and call.role == "generator-next"
    }
    return tuple(
        PythonFunction(
            call.token, call.role, call.gives, call.eager, following.get(call.generator, "")
        )
        for call in calls
    )


def lost_functions(
    graph: Graph, targets: Iterable[str], functions: Collection[str]
) -> tuple[Problem, ...]:
    """A problem for every ``py_func`` that the targets themselves run, outside of any pipeline, and
    that has no function.

    Args:
        graph: with its inputs cut.
        functions: tokens that have a function again.
    """
    if not python_places(graph.meta.graph_def):
        return ()
    bodies = Bodies(graph.meta.graph_def)
    closure = graph.view.ancestors(targets)
    top = [NodePlace("", graph.view.nodes[name]) for name in graph.view.nodes if name in closure]
    places = [*top, *bodies.reached([place.node for place in top])]
    return tuple(_lost(call) for call in python_calls(places) if call.token not in functions)


def _lost(call: PythonCall) -> Problem:
    takes, gives = ", ".join(call.takes), ", ".join(call.gives)
    outputs = ", ".join(f"--input-map {call.node}:{port}=KEY" for port in range(len(call.gives)))
    instead = f", or replace what it gives: {outputs}" if outputs and " " not in call.node else ""
    return Problem(
        "python-lost",
        "error",
        f"training runs {call.node}, which calls the Python function {call.token} (({takes}) -> ({gives})) of the process that built"
        " the graph",
        f"Give it back with --py-func {call.token}=MODULE:FUNCTION{instead}",
        (call.node,),
    )


def _cause_read(pipeline: Pipeline, dead: Mapping[str, str]) -> tuple[PipelineProblem, ...]:
    reasons = {dead[taker] for taker in pipeline.takers if taker in dead}
    return tuple(PipelineProblem("dead-pipeline", reason) for reason in sorted(reasons))


def _share_iterators(
    editor: Editor, graph: Graph, live: Iterable[Pipeline], config: RunConfig
) -> tuple[LivePipeline, ...]:
    made = []
    bodies = Bodies(editor.meta.graph_def)
    for number, pipeline in enumerate(live):
        settle_order(editor.meta, graph.ops, members(graph, bodies, pipeline), config.seed)
        made.append(
            shard_iterator(
                editor, pipeline, number, shards_by_file(pipeline, config.workers.largest)
            )
        )
    return tuple(made)


def _queue_warnings(pipeline: Pipeline, queue: LiveQueue, config: RunConfig) -> Iterable[Problem]:
    if not queue.promise and config.workers.largest > 1:
        yield Problem(
            "pipeline-parts-overlap",
            "warning",
            f"the queue {queue.name} is filled in an order that differs from process to process, so ranks may train on the same rows",
            "Serve the batches from --input MODULE:FUNCTION where every row has to be used exactly once",
            (queue.name,),
            ("group",),
        )
    if pipeline.op.startswith("RandomShuffleQueue"):
        yield Problem(
            "pipeline-rows-held-back",
            "warning",
            f"the queue {queue.name} shuffles: rows that it holds when the group changes or the run is resumed are left out of that"
            " pass over the data, and as many others come twice",
            "Nothing to do where that doesn't matter; else serve the batches from --input MODULE:FUNCTION",
            (queue.name,),
        )


def _fills_dead(runner: Runner, wanted: Iterable[Pipeline], live: Collection[Pipeline]) -> bool:
    fed = [
        pipeline
        for pipeline in wanted
        if runner[0] == pipeline.name or runner[0] in pipeline.inner_queues
    ]
    return bool(fed) and not any(pipeline in live for pipeline in fed)
