"""How are hostile graphs made, and what must hold for each of them?

Rule: whatever the bytes, ``read_meta`` gives a graph or a SourceError, and everything that looks at
the graph afterwards gives an answer: no other exception, no hang, and the graph is as it was
before. Mutations are drawn from a seeded generator, so that a number reproduces a failure. Two
kinds: of the bytes (what networks and disks do), and of the protos (what an attacker or a bad tool
does).
"""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.config import RunConfig
from orchestrator.errors import SourceError
from orchestrator.graph.check import check
from orchestrator.graph.fetching import fetch_graph
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inspect import inspect

SEEDS = Path(__file__).parent / "seeds"
LIMIT_S = 20.0
"""Longest time for one input of a few hundred nodes; the slowest sound one takes 0.1 s."""
LOOKED_AT = str(Path("orchestrator") / "graph")
INTERESTING = (0, 1, -1, 2, 127, 128, 255, 2**31 - 1, -(2**31), 2**62, -(2**63))
NAMES = (
    "",
    "^",
    ":",
    "a:b:c",
    "^^x",
    "x:-1",
    "x:99999999999",
    "\u2028",
    "a" * 5000,
    "_tfresume",
    "loc:@x",
)
GROUP = RunConfig.model_validate({"source": "x.meta", "workers": 2, "init_missing": True})
ALONE = RunConfig.model_validate(
    {"source": "x.meta", "workers": 1, "force": True, "clear_devices": False}
)


def seed_graphs() -> dict[str, bytes]:
    """The sound graphs that mutations start from, by name."""
    return {
        path.name.removesuffix(".meta.gz"): gzip.decompress(path.read_bytes())
        for path in sorted(SEEDS.glob("*.meta.gz"))
    }


def exercise(data: bytes) -> MetaGraphDef | None:
    """Do with ``data`` all that a driver would, and check that nothing goes wrong; the graph, None
    where it was refused.

    Raises:
        AssertionError: an input took too long or was changed.
        Exception: whatever the code under test should not have raised.
    """
    started = time.monotonic()
    try:
        meta = read_meta(data, name="fuzzed.meta")
    except SourceError:
        return None
    before = meta.SerializeToString(deterministic=True)
    inspect(meta, source="fuzzed.meta", size_bytes=len(data)).as_dict()
    for config in (GROUP, ALONE):
        check(meta, config).as_dict()
    fetch_graph(meta, ALONE, [meta.graph_def.node[-1].name])
    assert meta.SerializeToString(deterministic=True) == before, "looking at the graph changed it"
    assert time.monotonic() - started < LIMIT_S, "it took too long"
    return meta


def mutate(data: bytes, random: Random) -> bytes:
    """A damaged or forged copy of a graph."""
    if random.random() < 0.3:
        return mutate_bytes(data, random)
    meta = MetaGraphDef()
    try:
        meta.ParseFromString(data)
    except Exception:  # noqa: BLE001  a mutation of a mutation may be anything
        return mutate_bytes(data, random)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        random.choice(PROTO_MUTATIONS)(meta, random)
    return meta.SerializeToString()


def mutate_bytes(data: bytes, random: Random) -> bytes:
    """Flip, cut, repeat or overwrite bytes."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 3, 10))):
        if not out:
            break
        at = random.randrange(len(out))
        length = random.choice((1, 1, 4, 50, 1000))
        match random.randrange(6):
            case 0:
                out[at] ^= 1 << random.randrange(8)
            case 1:
                out[at] = random.randrange(256)
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length]
            case 4:
                out[at:at] = bytes(random.randrange(256) for _ in range(min(length, 50)))
            case _:
                del out[at:]
    return bytes(out)


def _node(meta: MetaGraphDef, random: Random) -> NodeDef:
    if not meta.graph_def.node:
        meta.graph_def.node.add(name="only", op="NoOp")
    return random.choice(meta.graph_def.node)


def _name(meta: MetaGraphDef, random: Random) -> str:
    return _node(meta, random).name if random.random() < 0.8 else random.choice(NAMES)


def _rewire(meta: MetaGraphDef, random: Random) -> None:
    node = _node(meta, random)
    source = (
        random.choice(("", "", "^"))
        + _name(meta, random)
        + random.choice(("", "", ":0", ":1", ":7"))
    )
    if node.input and random.random() < 0.7:
        node.input[random.randrange(len(node.input))] = source
    else:
        node.input.append(source)


def _drop_input(meta: MetaGraphDef, random: Random) -> None:
    node = _node(meta, random)
    if node.input:
        del node.input[random.randrange(len(node.input))]


def _change_op(meta: MetaGraphDef, random: Random) -> None:
    other = _node(meta, random).op
    _node(meta, random).op = random.choice(
        (other, other, "Merge", "Switch", "Enter", "Exit", "PyFunc", "", "Nothing")
    )


def _rename(meta: MetaGraphDef, random: Random) -> None:
    _node(meta, random).name = _name(meta, random)


def _drop_node(meta: MetaGraphDef, random: Random) -> None:
    if meta.graph_def.node:
        del meta.graph_def.node[random.randrange(len(meta.graph_def.node))]


def _repeat_node(meta: MetaGraphDef, random: Random) -> None:
    meta.graph_def.node.add().CopyFrom(_node(meta, random))


def _change_attribute(meta: MetaGraphDef, random: Random) -> None:
    node = _node(meta, random)
    names = list(node.attr)
    name = random.choice(names) if names and random.random() < 0.9 else "made_up"
    match random.randrange(8):
        case 0:
            node.attr[name].i = random.choice(INTERESTING)
        case 1:
            node.attr[name].type = random.choice((0, 1, 7, 20, 101, 107, 99999, -5))
        case 2:
            node.attr[name].s = random.choice(
                (b"", b"\xff\xfe", b"loc:@" + _name(meta, random).encode("utf-8", "replace"))
            )
        case 3:
            node.attr[name].shape.dim.add(size=random.choice(INTERESTING))
        case 4:
            node.attr[name].func.name = _name(meta, random)
        case 5:
            node.attr[name].list.i.append(1)
        case 6:
            node.attr[name].CopyFrom(_node(meta, random).attr[name])
        case _:
            node.attr.pop(name, None)


def _change_constant(meta: MetaGraphDef, random: Random) -> None:
    constants = [
        node for node in meta.graph_def.node if node.op == "Const" and "value" in node.attr
    ]
    if constants:
        tensor = random.choice(constants).attr["value"].tensor
        match random.randrange(4):
            case 0:
                tensor.tensor_shape.dim.add(size=random.choice(INTERESTING))
            case 1:
                tensor.tensor_content = bytes(
                    random.randrange(256) for _ in range(random.randrange(9))
                )
            case 2:
                tensor.string_val.append(b"\xff/" + _name(meta, random).encode("utf-8", "replace"))
            case _:
                tensor.dtype = random.choice((0, 1, 3, 7, 9, 20, 4242))


def _change_collection(meta: MetaGraphDef, random: Random) -> None:
    keys = [
        *meta.collection_def,
        "train_op",
        "queue_runners",
        "while_context",
        "losses",
        "global_step",
        "savers",
    ]
    collection = meta.collection_def[random.choice(keys)]
    match random.randrange(5):
        case 0:
            collection.node_list.value.append(_name(meta, random))
        case 1:
            collection.bytes_list.value.append(
                bytes(random.randrange(256) for _ in range(random.randrange(40)))
            )
        case 2:
            values = collection.bytes_list.value
            if values:
                values[random.randrange(len(values))] = mutate_bytes(random.choice(values), random)
        case 3:
            collection.Clear()
        case _:
            collection.int64_list.value.append(random.choice(INTERESTING))


def _change_saver(meta: MetaGraphDef, random: Random) -> None:
    field = random.choice(("filename_tensor_name", "save_tensor_name", "restore_op_name"))
    setattr(meta.saver_def, field, _name(meta, random))
    meta.saver_def.version = random.choice((0, 1, 2, 77))


def _change_versions(meta: MetaGraphDef, random: Random) -> None:
    meta.graph_def.versions.min_consumer = random.choice((0, 21, 2**31 - 1))
    meta.graph_def.versions.producer = random.choice((0, 5, 21, 27, 2**31 - 1, -7))
    meta.meta_info_def.tensorflow_version = random.choice(
        ("", "1.4.0-custom_build", "9" * 400, "v1", "None")
    )


def _change_library(meta: MetaGraphDef, random: Random) -> None:
    function = meta.graph_def.library.function.add()
    function.signature.name = _name(meta, random)
    function.node_def.add().CopyFrom(_node(meta, random))
    function.node_def[0].op = (
        function.signature.name if random.random() < 0.5 else function.node_def[0].op
    )
    meta.graph_def.library.gradient.add(
        function_name=function.signature.name, gradient_func=function.signature.name
    )
    _node(meta, random).attr["f"].func.name = function.signature.name


def _drop_definitions(meta: MetaGraphDef, random: Random) -> None:
    definitions = meta.meta_info_def.stripped_op_list.op
    if definitions:
        definition = random.choice(definitions)
        if random.random() < 0.5:
            definition.name = _node(meta, random).op
        else:
            del definition.input_arg[:]


PROTO_MUTATIONS: tuple[Callable[[MetaGraphDef, Random], None], ...] = (
    _rewire,
    _rewire,
    _drop_input,
    _change_op,
    _rename,
    _drop_node,
    _repeat_node,
    _change_attribute,
    _change_attribute,
    _change_constant,
    _change_collection,
    _change_saver,
    _change_versions,
    _change_library,
    _drop_definitions,
)


class Coverage:
    """Which pairs of lines the graph room has run, gathered with ``sys.settrace`` (atheris has no
    build for this Python).
    """

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self._new = 0
        self._last: dict[str, int] = {}

    def gather(self, action: Callable[[], object]) -> int:
        """Run ``action``; how many pairs it added."""
        self._new = 0
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            action()
        finally:
            sys.settrace(before)
        return self._new

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        return self._line if LOOKED_AT in frame.f_code.co_filename else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Any:
        file = frame.f_code.co_filename
        pair = (file, self._last.get(file, 0), frame.f_lineno)
        self._last[file] = frame.f_lineno
        if pair not in self.seen:
            self.seen.add(pair)
            self._new += 1
        return self._line


class Fuzzer:
    """A coverage-guided loop: an input that reaches something new joins the pool that later ones
    are made from.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.coverage = Coverage()
        self.pool = list(seed_graphs().values())
        self.runs = 0

    def run(self, seconds: float) -> None:
        """Fuzz for so long.

        Raises:
            FuzzFailure: an input broke a rule; it holds the input.
        """
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            data = mutate(self.random.choice(self.pool), self.random)
            self.runs += 1
            try:
                added = self.coverage.gather(lambda: exercise(data))  # noqa: B023  called at once
            except Exception as error:
                raise FuzzFailure(data, self.runs) from error
            if added and len(data) < 1_000_000:
                self.pool.append(data)


class FuzzFailure(Exception):
    """An input that broke a rule."""

    def __init__(self, data: bytes, run: int) -> None:
        super().__init__(f"input number {run} of {len(data)} bytes")
        self.data = data
