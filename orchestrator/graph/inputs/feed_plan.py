"""Which inputs does a run have, and who supplies each?

Rule: what ``--input-map`` replaces goes first, then batches are cut out of the graph's pipelines,
then the placeholders that are left. A pipeline is pulled where it can run and nobody else supplies
its batches. Everything that nobody supplies is a problem, all at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import Editor
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import parse_tensor
from orchestrator.graph.inputs.diagnosis import Outside, show_shape
from orchestrator.graph.inputs.ports import (
    Cut,
    apply_cuts,
    mapped_cuts,
    pipeline_cuts,
    placeholders,
    with_targets,
)
from orchestrator.graph.inputs.runnable import Running, lost_functions, run_pipelines
from orchestrator.graph.inputs.sources import revived_tokens
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import InputPort

NOTHING_KNOWN = Outside()


@dataclass(frozen=True)
class Feeding:
    """The inputs of a run, and what makes its pipelines run."""

    ports: tuple[InputPort, ...]
    problems: tuple[Problem, ...] = ()
    running: Running = field(default_factory=Running)


def feed_graph(
    editor: Editor,
    graph: Graph,
    targets: Iterable[str],
    config: RunConfig,
    *,
    outside: Outside = NOTHING_KNOWN,
) -> Feeding:
    """Cut the inputs of ``targets`` in the editor's graph."""
    targets = tuple(targets)
    mapped, problems = mapped_cuts(graph, config.input_map)
    cuts = [*mapped, *pipeline_cuts(graph, targets, {cut.tensor for cut in mapped})]
    supplied = _Supplied(config)
    alone = {
        cut.tensor.node for cut in cuts if cut.origin != "input_map" and not supplied(cut.name)
    }
    # Not what somebody supplies: its pipeline would be pulled, and its batches thrown away
    running = (
        run_pipelines(editor, graph, alone, config, outside=outside, supplied=supplied)
        if alone
        else Running()
    )
    made = apply_cuts(editor, graph, cuts, alone & running.live)
    now = editor.graph(graph.ops)
    ports = with_targets(now, made, targets) + placeholders(now, targets)
    problems.extend(running.problems)
    problems.extend(
        lost_functions(now, targets, revived_tokens(now.meta.graph_def, config.py_func))
    )
    problems.extend(_unfed([port for port in ports if _lacks(port, supplied)]))
    problems.extend(_defaults(now, ports, supplied))
    problems.extend(_unexplained([cut for cut in cuts if cut.tensor.node in running.dead], running))
    return Feeding(ports, tuple(problems), running)


def constants(config: RunConfig) -> set[str]:
    """Names of the fed tensors that hold one value for the whole run, on all ranks."""
    return {form for name in config.feed for form in (name, _full(name))}


class _Supplied:
    """Whether something of the configuration supplies a tensor."""

    def __init__(self, config: RunConfig) -> None:
        self._all = config.input is not None
        self._names = {_full(name) for name in (*config.feed, *config.array)}

    def by_name(self, name: str) -> bool:
        """Whether a flag names it."""
        return _full(name) in self._names

    def __call__(self, name: str) -> bool:
        return self._all or _full(name) in self._names


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _lacks(port: InputPort, supplied: _Supplied) -> bool:
    return (
        port.origin in ("placeholder", "input_map")
        and not port.optional
        and not supplied(port.name)
    )


def _defaults(graph: Graph, ports: Iterable[InputPort], supplied: _Supplied) -> Iterator[Problem]:
    """The switches that are off unless somebody feeds them, such as ``is_training``."""
    off = [
        port.name
        for port in ports
        if port.optional
        and port.dtype == "bool"
        and not supplied.by_name(port.name)
        and _is_off(graph, parse_tensor(port.tensor).node)
    ]
    if off:
        yield Problem(
            "default-off",
            "warning",
            f"training depends on {', '.join(off)}: False by default, and that holds in every batch that doesn't feed it",
            f"--feed {off[0]}=True if it says that the graph trains",
            tuple(off),
        )


def _is_off(graph: Graph, name: str) -> bool:
    source = graph.view.data[name][0]
    node = graph.view.nodes.get(source.node)
    if node is None or node.op != "Const":
        return False
    tensor = attribute(node, "value").tensor
    return not any(tensor.bool_val) and not any(tensor.tensor_content)


def _unfed(ports: list[InputPort]) -> Iterator[Problem]:
    """One problem for all that nothing feeds: a graph may need dozens."""
    if not ports:
        return
    listed = ", ".join(
        f"{port.name} ({port.dtype}, shape {show_shape(port.shape)})" for port in ports
    )
    remedy = f"Serve them from --input MODULE:FUNCTION, or each with --feed or --array, such as --feed {ports[0].name}=VALUE"
    said = f"training needs {listed}, and nothing feeds {'it' if len(ports) == 1 else 'them'}"
    yield Problem("unfed-placeholder", "error", said, remedy, tuple(port.name for port in ports))


def _unexplained(cuts: list[Cut], running: Running) -> Iterator[Problem]:
    """One problem for each reason why batches can't come, with all the tensors that it concerns."""
    by_reason: dict[str, list[Cut]] = {}
    for cut in cuts:
        by_reason.setdefault(running.dead[cut.tensor.node], []).append(cut)
    for reason, concerned in by_reason.items():
        listed = ", ".join(
            f"{cut.name} ({cut.dtype}, shape {show_shape(cut.shape)})" for cut in concerned
        )
        said = f"training takes batches from {listed}, and {reason}"
        yield Problem(
            "dead-pipeline",
            "error",
            said,
            "Serve them from --input MODULE:FUNCTION",
            tuple(cut.name for cut in concerned),
        )
