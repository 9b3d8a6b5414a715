"""How does a trained graph become one that serves: frozen, alone or as a SavedModel?

Rule: the surgery is on protos and needs no TensorFlow; the check does. Outputs are those that were
named, or the likeliest prediction; training switches are put to inference where the graph shows
how. Before an export is declared complete, TensorFlow runs it and the trained graph on the same
batches, and both give the same to 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.errors import GraphRefused
from orchestrator.exports import export_directory
from orchestrator.exports.assets import ASSETS, copied
from orchestrator.exports.constants import Constants
from orchestrator.exports.graph_check import checked, trusted
from orchestrator.exports.graph_files import FILES, Endpoint, GraphFormat, endpoints, graph_bytes
from orchestrator.exports.onnx_extra import require_installed
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.graphdef.nodes import Graph
from orchestrator.graph.graphdef.view import Edge, parse_tensor
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.importing.soundness import soundness_problems
from orchestrator.graph.inference.freezing import Frozen, freeze, needed_for
from orchestrator.graph.inference.outputs import rank_outputs
from orchestrator.graph.inference.switches import Switched, to_inference
from orchestrator.graph.inputs.ports import (
    Cut,
    find_tensor,
    mapped_cuts,
    mapped_shape,
    pipeline_cuts,
    placeholders,
)
from orchestrator.graph.inspect_report import OutputEntry
from orchestrator.graph.variables.saver import read_saver
from orchestrator.graph.variables.variables import find_variables
from orchestrator.store.checkpoints.source import (
    Source,
    named_source,
    resolve_source,
    source_fingerprint,
)
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.private import scratch


@dataclass(frozen=True)
class GraphExportResult:
    """What was exported and how it was checked.

    Attributes:
        url: the directory that it's in.
        inputs, outputs: what it takes and gives.
        why_output: why this output, where none was named.
        switched: what was put to inference; ``left`` what still behaves as in training.
        variables: how many became constants; ``nodes`` how many nodes are left.
        difference: the largest between the export and the trained graph, relative to the largest
            number of its output.
        compared: on how many batches, ``made`` up or the caller's.
        made_by: what converted the graph; empty where the format is TensorFlow's own.
    """

    url: str
    to: str
    checkpoint: str
    step: int | None
    files: tuple[str, ...]
    inputs: tuple[Endpoint, ...]
    outputs: tuple[Endpoint, ...]
    why_output: str
    switched: tuple[str, ...]
    left: tuple[str, ...]
    variables: int
    nodes: int
    difference: float
    compared: int
    made: bool
    made_by: str = ""
    already: bool = False
    status: str = "done"

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


@dataclass(frozen=True)
class _Model:
    """The graph to export, put to inference."""

    graph: Graph
    outputs: tuple[Edge, ...]
    why: str
    cuts: tuple[Cut, ...]
    switched: Switched


def export_graph(
    config: RunConfig, output: str, *, to: GraphFormat, fetches: Sequence[str] = ()
) -> GraphExportResult:
    """Write a graph that serves; TensorFlow checks it, in a process of its own.

    Args:
        config: ``source``; the inputs, if any, are what the export is checked with.
        output: a directory of the export's own; any fsspec URL.
        fetches: the outputs; none for the likeliest prediction.

    Raises:
        ConfigError: what the format takes isn't installed.
        GraphRefused: an output can't be computed from constants and inputs, or tf2onnx can't
            convert it.
        GraphMismatch: the export gives something else than the trained graph.
        SourceError, CorruptCheckpoint: the source is missing or damaged.
        OutputError: the directory holds something else.
        UserCodeError: the batches for the check can't be run.
    """
    if to == "onnx":
        require_installed()
    source, target = resolve_source(named_source(config)), open_location(output)
    assert source.prefix is not None, "a checkpoint was asked for"
    identity = {
        "to": to,
        "checkpoint": source.prefix.name,
        "fingerprint": source_fingerprint(source),
        "fetches": list(fetches),
        "input_map": dict(config.input_map),
    }
    done = export_directory.existing(target, identity)
    if done is not None:
        return _result(target, done, already=True)
    whole = [FILES[to], ASSETS]
    # Checking takes minutes: no news for its end
    export_directory.refuse_foreign(target, whole)
    model = _model(source, fetches, config.input_map)
    value = Constants(source, model.graph).value
    frozen = freeze(model.graph, model.outputs, model.cuts, value, tables=to == "saved-model")
    inputs, outputs = (
        _inputs(model, frozen),
        endpoints([(edge.tensor, model.graph.dtype(edge)) for edge in model.outputs]),
    )
    with scratch("export") as room:
        (room / "out").mkdir()
        if frozen.assets:
            trusted(config, source, model.graph, model.outputs)  # before a file is read
        assets = copied(frozen.assets, config.path_map, room / "out" / ASSETS)
        file = room / "out" / FILES[to]
        written = room / FILES["frozen"] if to == "onnx" else file
        written.write_bytes(graph_bytes(to, frozen, inputs, outputs, assets))
        found = checked(
            *(config, source, model.graph, model.outputs, frozen, inputs, file, room),
            left=model.switched.left,
        )
        export_directory.begin(target, identity, whole)
        more = export_directory.put(
            target.child(ASSETS),
            sorted({file.with_name(ASSETS) / name for name in assets.values()}),
        )
        records = export_directory.put(target, [file])
    record = {
        "source": source.prefix.shown,
        "step": source.step,
        "files": [one.model_dump() for one in records],
        "assets": [one.model_dump() for one in more],
        **_said(model, frozen, inputs, outputs),
        **found,
    }
    return _result(target, export_directory.complete(target, identity, record))


def _said(
    model: _Model, frozen: Frozen, inputs: Sequence[Endpoint], outputs: Sequence[Endpoint]
) -> dict[str, Any]:
    """What ``export.json`` says of the graph."""
    return {
        "inputs": [asdict(one) for one in inputs],
        "outputs": [asdict(one) for one in outputs],
        "why_output": model.why,
        "switched": list(model.switched.done),
        "left": list(model.switched.left),
        "variables": len(frozen.variables),
        "nodes": len(frozen.graph.node),
    }


def _model(
    source: Source, fetches: Sequence[str], input_map: Mapping[str, str] = MappingProxyType({})
) -> _Model:
    meta = read_meta(source.meta_data, name=source.meta.shown)
    graph = _sound(meta, source)
    variables = find_variables(graph, read_saver(graph), source.keys(), set())
    trainable = frozenset(one.name for one in variables if one.trainable)
    why = ""
    if not fetches:
        likeliest = _likeliest(graph, trainable, Constants(source, graph), source.meta.shown)
        fetches, why = [likeliest.name], likeliest.why
    outputs = tuple(parse_tensor(name) for name in fetches)
    lost = [name for name in fetches if find_tensor(graph, name) is None]
    if lost:
        raise GraphRefused(
            f"{source.meta.shown}: the graph has no tensor {parse_tensor(lost[0]).tensor}",
            remedy="`tfresume inspect` lists outputs",
        )
    cuts = _cuts(graph, outputs, input_map, source.meta.shown)
    switched = to_inference(graph, needed_for(graph, outputs, cuts), trainable)
    # Read anew: the switches have moved edges
    return _Model(_sound(switched.meta, source), outputs, why, cuts, switched)


def _likeliest(
    graph: Graph, trainable: frozenset[str], constants: Constants, shown: str
) -> OutputEntry:
    """The first output whose variables the checkpoint holds (of a GAN often the generator alone is
    saved) and for which no classes are sampled, as losses over large vocabularies do; else the
    first, to be refused by the name of what's in the way.
    """
    ranked = rank_outputs(graph, trainable)
    if not ranked:
        raise GraphRefused(
            f"{shown}: no tensor looks like a prediction",
            remedy="Name one with --fetch TENSOR",
        )
    for one in ranked:
        needed = needed_for(graph, [parse_tensor(one.name)])
        held = all(constants.holds(name) for name in needed if graph.traits(name).variable)
        if held and not any(graph.view.op(name).endswith("CandidateSampler") for name in needed):
            return one
    return ranked[0]


def _cuts(
    graph: Graph, outputs: Sequence[Edge], input_map: Mapping[str, str], shown: str
) -> tuple[Cut, ...]:
    """Where batches come in: what was named, and what comes out of a pipeline below it."""
    named, problems = mapped_cuts(graph, input_map)
    if problems:
        raise GraphRefused(f"{shown}: {problems[0].message}", remedy=problems[0].remedy)
    needed = needed_for(graph, outputs, named)
    own = pipeline_cuts(graph, [edge.node for edge in outputs], {cut.tensor for cut in named})
    named = [replace(cut, shape=mapped_shape(graph, cut.tensor)) for cut in named]
    return (*named, *(cut for cut in own if cut.tensor.node in needed))


def _sound(meta: MetaGraphDef, source: Source) -> Graph:
    repaired = repair(meta, RunConfig(source=source.url))
    graph = Graph(repaired.meta, repaired.ops)
    unsound = soundness_problems(repaired.meta, repaired.ops, graph.view, found=repaired.found)
    if unsound:
        raise GraphRefused(f"{source.meta.shown}: {unsound[0].message}", remedy=unsound[0].remedy)
    return graph


def _inputs(model: _Model, frozen: Frozen) -> tuple[Endpoint, ...]:
    there = {node.name for node in frozen.graph.node}
    own = placeholders(model.graph, [edge.node for edge in model.outputs])
    cut = {one.tensor.node for one in model.cuts}
    named = [
        (port.tensor, port.dtype)
        for port in own
        if parse_tensor(port.tensor).node in there - cut and not port.optional
    ]
    return endpoints([*named, *((frozen.inputs[cut.name], cut.dtype) for cut in model.cuts)])


def _result(
    target: Location, record: Mapping[str, Any], *, already: bool = False
) -> GraphExportResult:
    return GraphExportResult(
        url=target.shown,
        to=record["identity"]["to"],
        checkpoint=record["source"],
        step=record["step"],
        files=(
            *(file["name"] for file in record["files"]),
            *(f"{ASSETS}/{file['name']}" for file in record.get("assets", [])),
        ),
        inputs=tuple(Endpoint(**one) for one in record["inputs"]),
        outputs=tuple(Endpoint(**one) for one in record["outputs"]),
        why_output=record["why_output"],
        switched=tuple(record["switched"]),
        left=tuple(record["left"]),
        variables=record["variables"],
        nodes=record["nodes"],
        difference=record["difference"],
        compared=record["compared"],
        made=record["made"],
        made_by=record["made_by"],
        already=already,
    )
