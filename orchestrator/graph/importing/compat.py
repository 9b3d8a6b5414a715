"""Can the installed TensorFlow import this graph, and run what's in it?

Rule: all nodes and all function bodies at once, so that the reader learns every reason in one go.
What can be mended is ``mending``'s; everything else is a problem with the nodes' names
(``compat_problems``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from orchestrator.graph.graphdef.attributes import AttributeFault, AttributeRules, faults, rules_of
from orchestrator.graph.graphdef.library import every_node, label
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.importing.versions import too_new
from orchestrator.graph.problem import Problem


@dataclass
class Compatibility:
    """What one pass over all nodes found.

    Attributes:
        missing: operation type that nobody knows to the nodes that use it.
        removed: operation type to nodes; TensorFlow refuses it in graphs of this producer version.
        attributes: (operation type, fault) to nodes.
    """

    missing: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    removed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    attributes: dict[tuple[str, AttributeFault], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def all_known(self) -> bool:
        """Every operation is known and every unknown attribute can be dropped."""
        return (
            not self.missing
            and not self.removed
            and all(fault.droppable for _, fault in self.attributes)
        )


def compatibility(meta: MetaGraphDef, ops: OpSet) -> Compatibility:
    """What in ``meta`` the installed TensorFlow doesn't know; one pass, linear."""
    found = Compatibility()
    functions = {function.signature.name for function in meta.graph_def.library.function}
    own = {op.name: op for op in meta.meta_info_def.stripped_op_list.op}
    rules: dict[str, AttributeRules | None] = {}
    producer = meta.graph_def.versions.producer
    for function, node in every_node(meta.graph_def):
        op_type = node.op
        if op_type not in rules:
            definition = ops.get(op_type) if ops.registered(op_type) else None
            rules[op_type] = None if definition is None else rules_of(definition)
        known = rules[op_type]
        if known is None:
            if op_type not in functions:
                found.missing[op_type].append(label(function, node.name))
            continue
        # TensorFlow refuses a deprecated operation only in graphs that were made after it was:
        # ``CheckOpDeprecation`` of ``core/framework/op_def_util.cc``
        since = ops.ops[op_type].deprecation.version
        if 0 < since <= producer:
            found.removed[op_type].append(label(function, node.name))
        for fault in faults(node, known, own.get(op_type), in_function=bool(function)):
            found.attributes[op_type, fault].append(label(function, node.name))
    return found


def compat_problems(
    meta: MetaGraphDef,
    ops: OpSet,
    *,
    libraries: Iterable[str] = (),
    force: bool = False,
    found: Compatibility | None = None,
) -> tuple[Problem, ...]:
    """Why the installed TensorFlow won't import ``meta`` (after ``mend``), in words.

    Args:
        libraries: ``--load-op-library`` and ``--import-modules``: they may bring operations that
            are missing here.
        force: unknown attributes are dropped anyway.
        found: ``compatibility(meta, ops)`` where it's known already.
    """
    found = found or compatibility(meta, ops)
    return (
        *_missing(found, ops, tuple(libraries)),
        *_unknown_attributes(found, ops, force=force),
        *_functions(meta, ops),
        *_gradient_cycles(meta),
        *_reader(meta, ops),
        *(
            (Problem("opset-stale", "warning", f"the list of operations may not fit: {ops.stale}"),)
            if ops.stale
            else ()
        ),
    )


def _missing(found: Compatibility, ops: OpSet, libraries: tuple[str, ...]) -> Iterator[Problem]:
    for op_type, nodes in sorted(found.missing.items()):
        if libraries:
            said = f"TensorFlow {ops.tensorflow} has no operation {op_type}; {', '.join(libraries)} must bring it"
            yield Problem(
                "missing-op",
                "warning",
                said,
                "The workers stop at the import if it doesn't",
                tuple(nodes),
            )
            continue
        yield Problem(
            "missing-op",
            "error",
            f"TensorFlow {ops.tensorflow} has no operation {op_type}",
            "Name the library that brings it with --load-op-library FILE.so or --import-modules MODULE",
            tuple(nodes),
        )
    for op_type, nodes in sorted(found.removed.items()):
        why = ops.ops[op_type].deprecation.explanation.strip(". ") or "it was removed"
        said = f"TensorFlow {ops.tensorflow} refuses {op_type} in a graph of this version: {why}"
        yield Problem(
            "removed-op",
            "error",
            said,
            "Export the graph with a TensorFlow that uses the new form",
            tuple(nodes),
        )


def _unknown_attributes(found: Compatibility, ops: OpSet, *, force: bool) -> Iterator[Problem]:
    for (op_type, fault), nodes in found.attributes.items():
        name = f"attribute {fault.attribute} of {op_type}"
        if fault.kind == "unknown" and not (fault.droppable or force):
            yield Problem(
                "unknown-attribute",
                "error",
                f"TensorFlow {ops.tensorflow} knows no {name}, and it isn't at a default that the graph states",
                "--force drops it, which may change what the operation does",
                tuple(nodes),
                forceable=True,
            )


def attribute_problems(found: Compatibility) -> tuple[Problem, ...]:
    """Attributes that are missing, or hold what their operation doesn't allow: the marks of a
    damaged graph.
    """
    said = {
        "missing": "is missing",
        "kind": "holds a value of another kind",
        "value": "holds a value that isn't allowed",
    }
    remedy = "The file is damaged or was edited; copy it again from where it was written"
    return tuple(
        Problem(
            f"{fault.kind}-attribute",
            "error",
            f"attribute {fault.attribute} of {op_type} {said[fault.kind]}",
            remedy,
            tuple(nodes),
        )
        for (op_type, fault), nodes in found.attributes.items()
        if fault.kind in said
    )


def _functions(meta: MetaGraphDef, ops: OpSet) -> Iterator[Problem]:
    bodies: dict[str, bytes] = {}
    for function in meta.graph_def.library.function:
        name = function.signature.name
        body = function.SerializeToString(deterministic=True)
        if bodies.setdefault(name, body) != body:
            said = f"two different functions of the graph are called {name}"
            yield Problem(
                "function-collision",
                "error",
                said,
                "Export the graph again; one name must mean one function",
                (name,),
            )
        if ops.registered(name):
            said = f"a function of the graph is called {name}, as an operation of TensorFlow {ops.tensorflow} is"
            yield Problem(
                "function-collision",
                "error",
                said,
                "Rename the function and export the graph again",
                (name,),
            )


def _gradient_cycles(meta: MetaGraphDef) -> Iterator[Problem]:
    """Functions that are gradients of each other in a circle, which TensorFlow refuses."""
    following = {
        gradient.function_name: gradient.gradient_func
        for gradient in meta.graph_def.library.gradient
    }
    done: set[str] = set()
    for name in following:
        path: dict[str, None] = {}
        current = name
        while current in following and current not in done and current not in path:
            path[current] = None
            current = following[current]
        if current in path:
            said = f"the functions {', '.join(path)} are gradients of each other in a circle"
            yield Problem(
                "function-collision", "error", said, "Export the graph again", tuple(path)
            )
        done.update(path)


def _reader(meta: MetaGraphDef, ops: OpSet) -> Iterator[Problem]:
    versions = meta.graph_def.versions
    if versions.producer < ops.min_producer:
        said = f"the graph is of GraphDef version {versions.producer}; TensorFlow {ops.tensorflow} reads {ops.min_producer} and later"
        yield Problem(
            "producer-too-old", "error", said, "Import and export it once with an older TensorFlow"
        )
    if too_new(meta, ops):
        said = (
            f"the graph demands a reader of GraphDef version {versions.min_consumer} or excludes "
            f"{ops.graph_def_version}, that of TensorFlow {ops.tensorflow}, and holds things that this one doesn't know"
        )
        yield Problem(
            "min-consumer", "error", said, "Install the TensorFlow that wrote it, or a later one"
        )


def kernel_problems(
    nodes: Iterable[tuple[str, NodeDef]], ops: OpSet, *, gpu: bool
) -> tuple[Problem, ...]:
    """Operations among ``nodes`` (what a run executes) that the installed TensorFlow registers but
    can't run on these workers.

    Args:
        nodes: (function, node) as ``every_node`` gives them.
        gpu: the workers hold GPUs.
    """
    without: dict[str, list[str]] = defaultdict(list)
    gpu_only: dict[str, list[str]] = defaultdict(list)
    for function, node in nodes:
        if node.op in ops.without_kernel:
            without[node.op].append(label(function, node.name))
        elif node.op in ops.gpu_only and not gpu:
            gpu_only[node.op].append(label(function, node.name))
    found = [
        Problem(
            "no-kernel",
            "error",
            f"TensorFlow {ops.tensorflow} still names {op_type} and can no longer run it",
            "Bring its kernel with --load-op-library FILE.so, or resume with a --train-op that doesn't need it",
            tuple(names),
        )
        for op_type, names in sorted(without.items())
    ]
    found.extend(
        Problem(
            "gpu-only-op",
            "error",
            f"{op_type} runs on GPUs only",
            "Give the workers a GPU: workers.gpus 1",
            tuple(names),
        )
        for op_type, names in sorted(gpu_only.items())
    )
    return tuple(found)
