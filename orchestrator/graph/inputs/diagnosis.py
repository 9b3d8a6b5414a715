"""Why can't an input pipeline run here, and what would bring it back?

Rule: a pipeline is dead where its data came out of the process that built the graph (a Python
function, a thread that fed placeholders), where its files are gone, or where this TensorFlow can't
build its datasets, which only building them tells (``training.inputs.probe``). Every cause is
named at once, each with what would mend it; the way that always works is to supply the batches
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.graph.inputs.pipeline import Pipeline, PythonCall
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import Shape

SHOWN = 5
"""Outputs named in a message; who needs the others asks ``inspect``."""


@dataclass(frozen=True)
class Outside:
    """What somebody found out beyond the graph, where the workers will run.

    Attributes:
        missing: whether a file name or pattern is known to name nothing; None where nobody has
            looked.
        unreachable: why that can't be known of a file, empty where it can.
        unbuildable: pipeline to the error with which this TensorFlow refused to run it.
    """

    missing: Callable[[str], bool] | None = None
    unreachable: Callable[[str], str] = lambda name: ""
    unbuildable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What is known beyond the graph.

    Attributes:
        functions: tokens that ``--py-func`` gives a function.
        outside: what was found out where the workers will run.
        supplied: whether the user supplies the values of a tensor.
    """

    functions: Collection[str] = ()
    outside: Outside = Outside()
    supplied: Callable[[str], bool] = lambda tensor: False


@dataclass(frozen=True)
class PipelineProblem:
    """One reason why a pipeline can't run.

    Attributes:
        code: ``pipeline-files-missing``, ``pipeline-files-unreachable``, ``pipeline-python-lost``,
            ``pipeline-fed-by-process``, ``pipeline-unnamed-files``, ``pipeline-not-started``,
            ``pipeline-ambiguous`` or ``pipeline-unbuildable``.
        why: in words, without the pipeline's name.
        remedy: what would bring the pipeline itself back; empty where nothing does.
        nodes: what it is about.
    """

    code: str
    why: str
    remedy: str = ""
    nodes: tuple[str, ...] = ()


def problems_of(pipeline: Pipeline, facts: Facts) -> tuple[PipelineProblem, ...]:
    """Every reason why ``pipeline`` can't run; empty where it can."""
    return (
        *_lost_python(pipeline, facts),
        *_fed(pipeline),
        *_files(pipeline, facts),
        *_start(pipeline),
        *_unbuildable(pipeline, facts),
    )


def _lost_python(pipeline: Pipeline, facts: Facts) -> Iterator[PipelineProblem]:
    generators: dict[str, list[PythonCall]] = {}
    for call in pipeline.calls:
        if call.generator:
            generators.setdefault(call.generator, []).append(call)
        elif call.token not in facts.functions:
            yield PipelineProblem(
                "pipeline-python-lost",
                f"{call.node} calls the Python function {call.token} ({_signature(call)}) of the process that built the graph",
                f"give it back with --py-func {call.token}=MODULE:FUNCTION",
                (call.node,),
            )
    for node, calls in generators.items():
        following = next((call for call in calls if call.role == "generator-next"), calls[0])
        lost = [call.token for call in calls if call.token not in facts.functions]
        if lost and following.token not in facts.functions:
            gives = ", ".join(following.gives)
            yield PipelineProblem(
                "pipeline-python-lost",
                f"{node} draws its elements from a Python generator (tokens {', '.join(sorted(lost))}) of the process that built the graph",
                f"give it back with --py-func {following.token}=MODULE:FUNCTION, a function whose iterator yields ({gives})",
                (node,),
            )


def _signature(call: PythonCall) -> str:
    return f"({', '.join(call.takes)}) -> ({', '.join(call.gives)})"


def _fed(pipeline: Pipeline) -> Iterator[PipelineProblem]:
    fed = [name for name, _, _ in pipeline.placeholders]
    if fed:
        yield PipelineProblem(
            "pipeline-fed-by-process",
            f"it was fed through {_some(fed)} by a thread or a call of the program that built the graph, which is gone",
            nodes=tuple(fed),
        )


def _files(pipeline: Pipeline, facts: Facts) -> Iterator[PipelineProblem]:
    unnamed = [
        files.node
        for files in pipeline.files
        if files.origin == "computed" and not files.names and not pipeline.placeholders
    ]
    if unnamed:
        yield PipelineProblem(
            "pipeline-unnamed-files",
            f"{_some(unnamed)} reads files whose names the graph doesn't tell",
            nodes=tuple(unnamed),
        )
    is_missing = facts.outside.missing
    if is_missing is None:
        return
    readable = [
        name for files in pipeline.files if files.origin != "computed" for name in files.names
    ]
    missing = [name for name in dict.fromkeys(readable) if is_missing(name)]
    yield from _unreachable(pipeline, readable, facts)
    if missing:
        directory = missing[0].rpartition("/")[0]
        yield PipelineProblem(
            "pipeline-files-missing",
            f"{len(missing)} of the {len(set(readable))} files that it reads are not there: {_some(missing)}",
            f"say where they are now with --path-map {directory + '/' if directory else missing[0]}=NEW",
            tuple(files.node for files in pipeline.files),
        )


def _unreachable(
    pipeline: Pipeline, readable: Collection[str], facts: Facts
) -> Iterator[PipelineProblem]:
    reasons = {
        name: why for name in dict.fromkeys(readable) if (why := facts.outside.unreachable(name))
    }
    if reasons:
        first, why = next(iter(reasons.items()))
        yield PipelineProblem(
            "pipeline-files-unreachable",
            f"whether {len(reasons)} of the {len(set(readable))} files that it reads are there can't be seen: {first}: {why}",
            "mend the way there or the rights, and try again",
            tuple(files.node for files in pipeline.files),
        )


def _start(pipeline: Pipeline) -> Iterator[PipelineProblem]:
    if pipeline.handle:
        yield PipelineProblem(
            "pipeline-not-started",
            "the program chose its iterator by feeding a handle",
            nodes=(pipeline.name,),
        )
    elif pipeline.kind == "iterator" and len(pipeline.starters) > 1:
        yield PipelineProblem(
            "pipeline-ambiguous",
            f"{len(pipeline.starters)} data sets can be its source ({_some(pipeline.starters)}), and the graph doesn't say which trains",
            nodes=pipeline.starters,
        )
    elif not pipeline.starters and pipeline.op != "OneShotIterator":
        kind = "initialises it" if pipeline.kind == "iterator" else "fills it"
        yield PipelineProblem(
            "pipeline-not-started", f"no operation of the graph {kind}", nodes=(pipeline.name,)
        )


def _unbuildable(pipeline: Pipeline, facts: Facts) -> Iterator[PipelineProblem]:
    error = facts.outside.unbuildable.get(pipeline.name)
    if error:
        yield PipelineProblem(
            "pipeline-unbuildable",
            f"this TensorFlow can't run it: {error}",
            nodes=tuple(stage.node for stage in pipeline.stages),
        )


def dead_pipeline(pipeline: Pipeline, cause: PipelineProblem, facts: Facts) -> Problem:
    """A cause as a problem: an error where nobody supplies the batches, else a warning."""
    lacking = [output for output in pipeline.outputs if not facts.supplied(output.tensor)]
    severity: Literal["error", "warning"] = "error" if lacking else "warning"
    way = f" ({pipeline.summary})" if pipeline.summary else ""
    message = f"the input pipeline of {pipeline.name}{way} can't run: {cause.why}"
    feeds = ", ".join(
        f"{output.tensor} ({output.dtype}, shape {show_shape(output.shape)})"
        for output in pipeline.outputs[:SHOWN]
    )
    more = f" and {len(pipeline.outputs) - SHOWN} more" if len(pipeline.outputs) > SHOWN else ""
    supply = f"serve its batches from --input MODULE:FUNCTION, or each with --array NAME=FILE: {feeds}{more}"
    remedy = (
        f"{cause.remedy[:1].upper()}{cause.remedy[1:]}, or {supply}"
        if cause.remedy
        else supply[:1].upper() + supply[1:]
    )
    said = "Nothing to do: its batches are supplied" if severity == "warning" else remedy
    return Problem(cause.code, severity, message, said, cause.nodes or (pipeline.name,))


def show_shape(shape: Shape) -> str:
    """A shape for people: ``[?, 784]``, ``unknown``."""
    return (
        "unknown"
        if shape is None
        else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
    )


def _some(names: Collection[str]) -> str:
    shown = list(names)[:3]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
