"""What does it take to fetch a tensor of a graph?

Rule: as ``plan`` for training: repairs, soundness, what has to be fed, what reaches beyond the
graph. That counts what opening the graph runs besides: all initialisers of variables, those of the
tables that are looked up in, and the saver's. All problems at once; of rewriting no more than the
files that ``path_map`` moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.graph.external_access import untrusted_ops, untrusted_problems
from orchestrator.graph.graphdef.nodes import ALIASES, Graph
from orchestrator.graph.graphdef.view import parse_tensor, resolve_alias
from orchestrator.graph.importing.compat import compat_problems
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.importing.soundness import soundness_problems
from orchestrator.graph.inputs.path_map import remap_paths, remote_paths
from orchestrator.graph.inputs.ports import find_tensor, mapped_shape, pipeline_cuts, placeholders
from orchestrator.graph.variables.initializers import table_initializers
from orchestrator.graph.variables.variables import variable_definition
from orchestrator.graph.worker_graph import InputPort, Problem, WorkerGraph

RESTORES = frozenset({"RestoreV2", "RestoreSlice", "Restore"})
"""They read the checkpoint, whose name is fed."""
VARIABLES = ("variables", "local_variables")
"""The collections of variables that plain TensorFlow initialises."""


@dataclass(frozen=True)
class FetchPlan:
    """A graph to fetch from, None where ``problems`` has errors; ``fetches`` are the tensors' full
    names.
    """

    graph: WorkerGraph | None
    problems: tuple[Problem, ...] = ()
    fetches: tuple[str, ...] = ()


def fetch_graph(meta: MetaGraphDef, config: RunConfig, fetches: Sequence[str]) -> FetchPlan:
    """What has to be fed for ``fetches``, and what stands in the way.

    Args:
        config: ``feed``, ``array``, ``input`` and ``input_map`` say what is supplied; ``allow_op``
            and its like what is trusted.
    """
    repaired = repair(meta, config)
    mended, ops = repaired.meta, repaired.ops
    if config.path_map:
        mended = MetaGraphDef.FromString(mended.SerializeToString())
        remap_paths(mended, config.path_map)
    unsound = soundness_problems(mended, ops, found=repaired.found)
    if unsound:
        return FetchPlan(None, unsound)
    graph = Graph(mended, ops)
    found = {text: find_tensor(graph, text) for text in fetches}
    lost = tuple(_no_tensor(text) for text, edge in found.items() if edge is None)
    edges = [edge for edge in found.values() if edge is not None]
    ports = _ports(graph, [edge.node for edge in edges], config)
    cut = {parse_tensor(port.name).node for port in ports if port.origin != "placeholder"}
    executed = graph.view.ancestors([edge.node for edge in edges], stop=lambda name: name in cut)
    tables = [
        name
        for name in table_initializers(graph, [edge.node for edge in edges])
        if resolve_alias(graph.view, graph.view.data[name][0], ALIASES).node in executed
    ]
    opened = graph.view.ancestors([*tables, *_run_at_opening(graph)])
    untrusted = untrusted_ops(
        mended.graph_def,
        ops,
        (executed - cut) | {name for name in opened if graph.view.op(name) not in RESTORES},
        allow=config.allow_op,
        path_map=config.path_map,
        py_func=config.py_func,
    )
    problems = (
        *lost,
        *compat_problems(
            mended,
            ops,
            libraries=[*config.load_op_library, *config.import_modules],
            force=config.force,
            found=repaired.found,
        ),
        *_unfed(ports, config),
        *untrusted_problems(untrusted),
    )
    if any(problem.severity == "error" for problem in problems):
        return FetchPlan(
            None, tuple(problem for problem in problems if problem.severity == "error")
        )
    data = mended.SerializeToString()
    return FetchPlan(
        WorkerGraph(
            *(data, data, (), tuple(ports), ()),
            repairs=repaired.done,
            table_initializers=tuple(tables),
            remote_paths=remote_paths(config.path_map, mended),
        ),
        problems,
        tuple(edge.tensor for edge in edges),
    )


def _run_at_opening(graph: Graph) -> Iterator[str]:
    """What initialises variables and restores them."""
    restore = parse_tensor(graph.meta.saver_def.restore_op_name).node
    named = [restore]
    for collection in VARIABLES:
        if collection in graph.meta.collection_def:
            for value in graph.meta.collection_def[collection].bytes_list.value:
                definition = variable_definition(value)
                if definition is not None:
                    named.append(parse_tensor(definition.initializer_name).node)
    yield from (name for name in named if name in graph.view)


def _ports(graph: Graph, nodes: list[str], config: RunConfig) -> list[InputPort]:
    """The batches that the fetches take out of pipelines, and the placeholders that are left beside
    them.
    """
    mapped = {parse_tensor(tensor): key for tensor, key in config.input_map.items()}
    above = {edge.node for edge in mapped}
    below = graph.view.ancestors(nodes, stop=lambda name: name in above)
    ports = [
        InputPort(cut.name, cut.name, cut.dtype, cut.shape, origin="iterator")
        for cut in pipeline_cuts(graph, nodes, set(mapped))
        if cut.tensor.node in below
    ]
    for edge, key in mapped.items():
        shape = mapped_shape(graph, edge)
        ports.append(InputPort(edge.tensor, key, graph.dtype(edge), shape, origin="input_map"))
    stops = {parse_tensor(port.tensor).node for port in ports}
    needed = graph.view.ancestors(nodes, stop=lambda name: name in stops)
    ports.extend(
        port for port in placeholders(graph, nodes) if parse_tensor(port.tensor).node in needed
    )
    return ports


def _unfed(ports: Iterable[InputPort], config: RunConfig) -> tuple[Problem, ...]:
    if config.input is not None:
        return ()
    given = {name if ":" in name else f"{name}:0" for name in (*config.feed, *config.array)}
    lacking = [port.name for port in ports if not port.optional and port.name not in given]
    if not lacking:
        return ()
    said = f"{', '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} to be fed for that"
    remedy = f"Serve them with --input MODULE:FUNCTION, --array, or --feed {lacking[0]}=VALUE"
    return (Problem("unfed-placeholder", "error", said, remedy, tuple(lacking)),)


def _no_tensor(text: str) -> Problem:
    return Problem(
        "unknown-tensor",
        "error",
        f"the graph has no tensor {text}",
        "`tfresume inspect` lists inputs and losses",
        (text,),
    )
