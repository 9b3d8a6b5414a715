"""Which inputs does a run have, and who supplies each?

Rule: what ``--input-map`` replaces goes first, then batches are cut out of the graph's pipelines, then the placeholders that are left.
A pipeline is pulled where it can run and nobody else supplies its batches. Everything that nobody supplies is a problem, all at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.config import RunConfig
from orchestrator.graph.edit import Editor
from orchestrator.graph.inputs import apply_cuts, mapped_cuts, pipeline_cuts, placeholders, with_targets
from orchestrator.graph.live_pipelines import Pipelines, read_pipelines
from orchestrator.graph.nodes import Graph
from orchestrator.graph.view import Edge
from orchestrator.graph.worker_graph import InputPort, Problem, Shape


@dataclass(frozen=True)
class Feeding:
    """The inputs of a run, and what makes its pipelines run."""

    ports: tuple[InputPort, ...]
    problems: tuple[Problem, ...] = ()
    initializers: tuple[str, ...] = ()
    queue_runners: tuple[tuple[str, tuple[str, ...], str, str], ...] = ()


def feed_graph(editor: Editor, graph: Graph, targets: Iterable[str], config: RunConfig) -> Feeding:
    """Cut the inputs of ``targets`` in the editor's graph."""
    targets = tuple(targets)
    mapped, problems = mapped_cuts(graph, config.input_map, config.import_scope)
    cuts = [*mapped, *pipeline_cuts(graph, targets, {cut.tensor for cut in mapped})]
    supplied = _Supplied(config)
    alone = {cut.tensor.node for cut in cuts if cut.origin != "input_map" and not supplied(cut.name)}
    pipelines = read_pipelines(graph, alone) if alone else Pipelines()
    made = apply_cuts(editor, graph, cuts, alone & pipelines.live)
    now = Graph(editor.meta, graph.ops)
    ports = with_targets(now, made, targets) + placeholders(now, targets)
    problems.extend(_unfed(port, supplied, pipelines, config) for port in ports if _lacks(port, supplied))
    return Feeding(ports, tuple(problems), pipelines.initializers, pipelines.queue_runners)


class _Supplied:
    """Whether something of the configuration supplies a tensor."""

    def __init__(self, config: RunConfig) -> None:
        self._all = config.input is not None
        self._names = {_full(name) for name in (*config.feed, *config.array)}

    def __call__(self, name: str) -> bool:
        return self._all or _full(name) in self._names


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _lacks(port: InputPort, supplied: _Supplied) -> bool:
    return not port.optional and port.pull is None and not supplied(port.name)


def _unfed(port: InputPort, supplied: _Supplied, pipelines: Pipelines, config: RunConfig) -> Problem:
    what = f"{port.name} ({port.dtype}, shape {show_shape(port.shape)})"
    remedy = f"Serve it from --input MODULE:FUNCTION, --array {port.name}=URL or --feed {port.name}=VALUE"
    if port.origin in ("queue", "iterator"):
        why = pipelines.dead.get(port.name.rpartition(":")[0], "its pipeline can't run here")
        return Problem("dead-pipeline", "error", f"training takes batches from {what}, and {why}", remedy, (port.name,))
    return Problem("unfed-placeholder", "error", f"training needs {what}, and nothing feeds it", remedy, (port.name,))


def show_shape(shape: Shape) -> str:
    """A shape for people: ``[?, 784]``, ``unknown``."""
    return "unknown" if shape is None else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def tensors_of(ports: Iterable[InputPort]) -> set[Edge]:
    """The tensors of the ports, as edges."""
    return {Edge(*_split(port.tensor)) for port in ports}


def _split(tensor: str) -> tuple[str, int]:
    name, _, port = tensor.rpartition(":")
    return name, int(port)
