"""What does an operation do to state, as its OpDef tells?

Rule: decided by the OpDef (reference inputs, resource inputs, argument and attribute names,
statefulness), so that operations of later TensorFlows and of custom libraries fall into place by
themselves. Names of operations are used only where the OpDef can't tell, each with its reason.
"""

from __future__ import annotations

from tensorboard.compat.proto.op_def_pb2 import OpDef
from tensorboard.compat.proto.types_pb2 import DT_RESOURCE, DT_STRING, DT_VARIANT

READS_THROUGH_A_REFERENCE = frozenset(
    {"IsVariableInitialized", "DebugGradientRefIdentity", "DestroyTemporaryVariable"}
)
"""They take a reference as a writer does and only look (or end a variable that lived within one
step). So do the control flow operations on references, all named ``Ref*``.
"""

READS_A_RESOURCE = frozenset({"DisableCopyOnRead", "ResourceInitializedOp"})
"""They have a writer's signature (a resource in) and change nothing that a step could notice."""

VARIABLE_HANDLES = ("resource", "ref", "var", "variable")
"""How the OpDefs name their input that is a resource variable, or a generator's state, which is
one.
"""


def has_reference_input(op: OpDef) -> bool:
    """Whether an input is a reference to a variable; string references are handles of queues,
    readers and tables.
    """
    return any(argument.is_ref and argument.type != DT_STRING for argument in op.input_arg)


def writes_variable(op: OpDef) -> bool:
    """Whether the operation changes a variable (Assign*, Apply*, Scatter*, CountUpTo; their
    resource forms; generator states).
    """
    if has_reference_input(op):
        return not op.name.startswith("Ref") and op.name not in READS_THROUGH_A_REFERENCE
    if not op.input_arg or op.input_arg[0].type != DT_RESOURCE or op.name in READS_A_RESOURCE:
        return False
    if op.input_arg[0].name not in VARIABLE_HANDLES or not op.is_stateful:
        return False
    return not op.output_arg or op.name == "ResourceCountUpTo" or _advances_generator(op)


def _advances_generator(op: OpDef) -> bool:
    """RngReadAndSkip, StatefulUniform and the like: a resource, an algorithm, and a value out."""
    return len(op.input_arg) > 1 and op.input_arg[1].name in ("algorithm", "alg")


def writes_table(op: OpDef) -> bool:
    """Whether the operation fills or changes a lookup table."""
    return bool(op.input_arg) and op.input_arg[0].name == "table_handle" and not op.output_arg


def writes_accumulator(op: OpDef) -> bool:
    """Whether the operation adds to, empties or re-dates a conditional accumulator
    (SyncReplicasOptimizer).
    """
    return (
        "Accumulator" in op.name
        and bool(op.input_arg)
        and op.input_arg[0].name == "handle"
        and not op.name.endswith("NumAccumulated")
    )


def writes_state(op: OpDef) -> bool:
    """Whether the operation changes what a checkpoint or a later step sees: variables, generator
    states, tables, accumulators.
    """
    return writes_variable(op) or writes_table(op) or writes_accumulator(op)


def gradient_input(op: OpDef) -> int | None:
    """The position of the gradient among the inputs of an optimizer's update, None where the
    operation isn't one.

    An update's first input is ``var``; the gradient is called ``grad``, or ``delta`` by plain
    gradient descent.
    """
    if not op.input_arg or op.input_arg[0].name != "var":
        return None
    grad = input_index(op, "grad")
    return input_index(op, "delta") if grad is None else grad


def is_optimizer_update(op: OpDef) -> bool:
    """Whether the operation applies a gradient to a variable (Apply*, SparseApply* and their
    resource forms).
    """
    return gradient_input(op) is not None


def is_sparse_update(op: OpDef) -> bool:
    """Whether an optimizer update takes rows: ``grad`` comes with ``indices``."""
    return is_optimizer_update(op) and any(argument.name == "indices" for argument in op.input_arg)


def is_scatter(op: OpDef) -> bool:
    """Whether the operation writes rows of a variable directly (ScatterSub and its like, reference
    or resource, Nd or not).
    """
    names = [argument.name for argument in op.input_arg]
    return writes_variable(op) and names[1:3] == ["indices", "updates"]


def input_index(op: OpDef, name: str) -> int | None:
    """The position of the input argument ``name`` among a node's inputs, None where there is none
    or a list comes before it.
    """
    for index, argument in enumerate(op.input_arg):
        if argument.name == name:
            return index
        if argument.number_attr or argument.type_list_attr:
            return None
    return None


def is_variable(op: OpDef) -> bool:
    """Whether the operation holds a variable: Variable, VariableV2, VarHandleOp (a
    TemporaryVariable lives within one step).
    """
    if op.input_arg or len(op.output_arg) != 1 or op.name == "TemporaryVariable":
        return False
    if not {"shape", "dtype", "container", "shared_name"} <= {
        attribute.name for attribute in op.attr
    }:
        return False
    output = op.output_arg[0]
    return bool(
        (output.is_ref and output.name == "ref")
        or (output.type == DT_RESOURCE and output.name == "resource")
    )


def is_random(op: OpDef) -> bool:
    """Whether the operation draws random numbers from a hidden state keyed by its ``seed`` and
    ``seed2`` attributes.
    """
    attributes = {attribute.name for attribute in op.attr}
    if not {"seed", "seed2"} <= attributes or not op.is_stateful:
        return False
    return not any(
        argument.is_ref or argument.type in (DT_RESOURCE, DT_VARIANT) for argument in op.output_arg
    )


def takes_from_queue(op: OpDef) -> bool:
    """Whether the operation takes elements out of a queue, staging area or barrier."""
    return "Dequeue" in op.name or op.name in (
        "BarrierTakeMany",
        "Unstage",
        "MapUnstage",
        "MapUnstageNoKey",
        "OrderedMapUnstage",
    )


def takes_from_iterator(op: OpDef) -> bool:
    """Whether the operation takes an element out of a tf.data iterator."""
    return str(op.name).startswith("IteratorGetNext")


def takes_from_reader(op: OpDef) -> bool:
    """Whether the operation reads a record of a file through a reader (ReaderRead, ReaderReadUpTo,
    either version).
    """
    return str(op.name).startswith("ReaderRead")
