"""How does each rank get its own part of a dataset pipeline, and another part when the world size
changes?

Rule: the batches of a pipeline have one numbering that doesn't depend on the world size, and rank r
of W at position p serves the batches p + r, p + r + W, p + r + 2W …, exactly as an input function
does. So nothing is served twice or left out, whatever the world size became in between. With
``shards`` = V, TensorFlow's AutoShardDataset splits the files into V streams, and batch b is number
b // V of stream b % V; with V = 1 there is one stream of all files. A rank opens only the streams
that it needs::

    batches of rank r: b_j + k·L·W   with b_j = p + r + j·W,  j < L = V / gcd(V, W)
    stream j:          shard b_j % V, from b_j // V on, every (W / gcd(V, W))-th batch

Shard, start and stride are fed when the iterator is initialised: a change of world size runs one
operation, and TensorFlow reads again what stands before the start. Another V (another largest
number of workers) is another numbering: the run then goes on at the same position of another order.
A shuffle draws the same order in every process, by its own seed or the run's (``ordering``).
"""

from __future__ import annotations

from math import gcd

import numpy as np
from tensorboard.compat.proto.attr_value_pb2 import AttrValue

from orchestrator.graph.graphdef.attributes import attribute
from orchestrator.graph.graphdef.edit import (
    OWN,
    Editor,
    constant_attributes,
    shape_attribute,
    type_attribute,
)
from orchestrator.graph.graphdef.tensors import dtype_number
from orchestrator.graph.graphdef.view import Edge, parse_tensor
from orchestrator.graph.inputs.pipeline import Pipeline
from orchestrator.graph.worker_pipelines import LivePipeline

BY_FILE = 1
"""``AutoShardPolicy.FILE``: fails where there are fewer files than shards, and never falls back to
something else.
"""
DETERMINISTIC = b"\x08\x01"
"""``tf.data.Options`` with ``deterministic = true``, serialized; it wins over what stands further
inside.
"""


def shards_by_file(pipeline: Pipeline, largest: int) -> int:
    """Into how many streams a pipeline's files are split: as many as workers at most, or one where
    that can't be promised.

    An end of data would come at another batch in every stream, so only pipelines without end are
    split; and only where constants name at least as many files as there are workers, all read by
    one operation.
    """
    if largest == 1 or not pipeline.endless or len(pipeline.files) != 1 or pipeline.calls:
        return 1
    files = pipeline.files[0]
    return largest if files.origin == "constant" and len(files.names) >= largest else 1


def part_of(
    shards: int, rank: int, world_size: int, position: int
) -> tuple[list[int], list[int], int]:
    """Which streams a rank opens, from which batch of each on, and how many batches of a stream lie
    between two of its own.
    """
    common = gcd(shards, world_size)
    batches = [position + rank + number * world_size for number in range(shards // common)]
    return (
        [batch % shards for batch in batches],
        [batch // shards for batch in batches],
        world_size // common,
    )


def shard_iterator(editor: Editor, pipeline: Pipeline, number: int, shards: int) -> LivePipeline:
    """Put the rank's part in front of an iterator; the editor's graph changes in place.

    Args:
        pipeline: a live iterator with one MakeIterator, or a one-shot iterator.
        number: tells the new nodes of several pipelines apart.
        shards: V of the module's docstring.
    """
    name = f"pipeline/{number}"
    source = _source(editor, pipeline, name)
    types = {
        key: attribute(editor.node(pipeline.name), key) for key in ("output_types", "output_shapes")
    }
    feeds = {
        key: editor.add(
            "Placeholder",
            f"{name}/{key}",
            attributes={"dtype": type_attribute("int64"), "shape": shape_attribute(shape)},
        )
        for key, shape in (("shard", (None,)), ("start", (None,)), ("stride", ()))
    }
    if shards == 1:
        part = _single(editor, name, source, feeds, types)
    else:
        part = _interleaved(editor, name, source, feeds, types, shards)
    options = {**types, "serialized_options": AttrValue(s=DETERMINISTIC)}
    last = editor.add("OptionsDataset", f"{name}/options", [part], attributes=options)
    starter = _starter(editor, pipeline, name, Edge(last, 0))
    return LivePipeline(
        pipeline.name,
        starter,
        shards,
        f"{feeds['shard']}:0",
        f"{feeds['start']}:0",
        f"{feeds['stride']}:0",
    )


def _source(editor: Editor, pipeline: Pipeline, name: str) -> Edge:
    """The pipeline's own dataset: what MakeIterator takes, or what a one-shot iterator's factory
    gives, which is called here as any function is.
    """
    if pipeline.starters:
        return parse_tensor(editor.node(pipeline.starters[0]).input[0])
    factory = attribute(editor.node(pipeline.name), "dataset_factory").func
    return Edge(editor.add(factory.name, f"{name}/source", attributes=dict(factory.attr)), 0)


def _starter(editor: Editor, pipeline: Pipeline, name: str, dataset: Edge) -> str:
    if pipeline.starters:
        editor.set_input(pipeline.starters[0], 0, dataset)
        return pipeline.starters[0]
    # A one-shot iterator begins by itself, at its first batch, and can't be begun anew at another
    # position: it becomes one that is initialised
    node = editor.node(pipeline.name)
    kept = {key: _copy(attribute(node, key)) for key in ("output_types", "output_shapes")}
    kept |= {"shared_name": AttrValue(s=pipeline.name.encode()), "container": AttrValue(s=b"")}
    editor.change_op(pipeline.name, "IteratorV2", [], [], kept)
    return editor.add("MakeIterator", f"{name}/begin", [dataset, Edge(pipeline.name, 0)])


def _copy(value: AttrValue) -> AttrValue:
    copied = AttrValue()
    copied.CopyFrom(value)
    return copied


def _single(
    editor: Editor, name: str, source: Edge, feeds: dict[str, str], types: dict[str, AttrValue]
) -> Edge:
    # What is fed as a start has an element for each stream, and SkipDataset takes a scalar
    scalar = editor.add(
        "Const", f"{name}/scalar", attributes=constant_attributes(np.zeros(0, np.int32))
    )
    attributes = {"T": type_attribute("int64"), "Tshape": type_attribute("int32")}
    start = editor.add(
        "Reshape",
        f"{name}/first",
        [Edge(feeds["start"], 0), Edge(scalar, 0)],
        attributes=attributes,
    )
    zero = editor.add(
        "Const", f"{name}/zero", attributes=constant_attributes(np.asarray(0, np.int64))
    )
    skipped = editor.add("SkipDataset", f"{name}/skip", [source, Edge(start, 0)], attributes=types)
    inputs = [Edge(skipped, 0), Edge(feeds["stride"], 0), Edge(zero, 0)]
    return Edge(editor.add("ShardDataset", f"{name}/part", inputs, attributes=types), 0)


def _interleaved(
    editor: Editor,
    name: str,
    source: Edge,
    feeds: dict[str, str],
    types: dict[str, AttrValue],
    shards: int,
) -> Edge:
    function = _stream_function(
        editor, OWN.replace("/", "_") + name.replace("/", "_"), types, shards
    )
    slices: dict[str, AttrValue] = {"Toutput_types": AttrValue(), "output_shapes": AttrValue()}
    for _ in range(2):
        slices["Toutput_types"].list.type.append(dtype_number("int64"))
        slices["output_shapes"].list.shape.add()
    parts = [Edge(feeds["shard"], 0), Edge(feeds["start"], 0)]
    streams = editor.add("TensorSliceDataset", f"{name}/streams", parts, attributes=slices)
    sized = {"T": type_attribute("int64"), "out_type": type_attribute("int64")}
    count = editor.add("Size", f"{name}/count", [Edge(feeds["shard"], 0)], attributes=sized)
    one = editor.add(
        "Const", f"{name}/one", attributes=constant_attributes(np.asarray(1, np.int64))
    )
    captured = AttrValue()
    captured.list.type.extend([dtype_number("variant"), dtype_number("int64")])
    called = AttrValue()
    called.func.name = function
    inputs = [Edge(streams, 0), source, Edge(feeds["stride"], 0), Edge(count, 0), Edge(one, 0)]
    attributes = {**types, "f": called, "Targuments": captured}
    return Edge(editor.add("InterleaveDataset", f"{name}/part", inputs, attributes=attributes), 0)


def _stream_function(editor: Editor, name: str, types: dict[str, AttrValue], shards: int) -> str:
    """``(shard, start, dataset, stride) -> dataset``: one stream's batches of a rank."""
    function = editor.meta.graph_def.library.function.add()
    function.signature.name = name
    for argument, dtype in (
        ("shard", "int64"),
        ("start", "int64"),
        ("source", "variant"),
        ("stride", "int64"),
    ):
        function.signature.input_arg.add(name=argument, type=dtype_number(dtype))
    function.signature.output_arg.add(name="handle", type=dtype_number("variant"))
    function.ret["handle"] = "part:handle:0"

    def add(op: str, node_name: str, inputs: list[str], attributes: dict[str, AttrValue]) -> None:
        node = function.node_def.add(name=node_name, op=op)
        node.input.extend(inputs)
        for key, value in attributes.items():
            node.attr[key].CopyFrom(value)

    add("Const", "shards", [], constant_attributes(np.asarray(shards, np.int64)))
    add("Const", "zero", [], constant_attributes(np.asarray(0, np.int64)))
    policy = {**types, "auto_shard_policy": AttrValue(i=BY_FILE), "num_replicas": AttrValue(i=0)}
    add("AutoShardDataset", "files", ["source", "shards:output:0", "shard"], policy)
    add("SkipDataset", "skip", ["files:handle:0", "start"], types)
    add("ShardDataset", "part", ["skip:handle:0", "stride", "zero:output:0"], types)
    return name
