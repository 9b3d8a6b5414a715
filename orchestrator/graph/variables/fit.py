"""Do a graph and its checkpoint fit each other?

Rule: every variable that training needs and that isn't local has to be there with its type and
shape. An optimizer's slots may be missing (they start anew, with a warning); weights may not,
unless ``--init-missing`` says so. What training doesn't need starts anew too where the graph's own
saver holds it: plain TensorFlow restores all of that, or nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.graph.problem import Problem
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys, CheckpointTensor
from orchestrator.graph.worker_graph import Shape, Variable

OPTIMIZER_STATE = ("beta1_power", "beta2_power")
"""Variables of an optimizer as a whole, by the last part of their names; slots are known by their
owners.
"""


def checkpoint_problems(
    variables: Iterable[Variable],
    checkpoint: CheckpointKeys,
    init_missing: bool,
    anew: Collection[str] = (),
) -> list[Problem]:
    """What a restore would stumble over, all of it.

    Args:
        anew: names of variables that are to be initialised, and that ``checkpoint`` lacks.
    """
    wanted = [variable for variable in variables if variable.needed and not variable.local]
    missing = [variable for variable in wanted if (variable.key or variable.name) not in checkpoint]
    asked = [variable for variable in missing if variable.name in anew]
    problems = list(_mismatches(wanted, checkpoint))
    problems.extend(_without_initializer(missing))
    missing = [variable for variable in missing if variable.name not in anew]
    slots = [variable for variable in missing if is_optimizer_state(variable)]
    weights = [variable for variable in missing if not is_optimizer_state(variable)]
    if asked:
        message = f"{_count(asked, 'variable')} will be initialised, as asked: {_few(asked)}"
        problems.append(Problem("made-anew", "warning", message, nodes=_names(asked)))
    if slots:
        message = f"the checkpoint lacks {_count(slots, 'optimizer slot')}; they start from their initial values"
        problems.append(Problem("slots-missing", "warning", message, nodes=_names(slots)))
    if weights and init_missing:
        message = (
            f"the checkpoint lacks {_count(weights, 'variable')}; --init-missing initialises them"
        )
        problems.append(Problem("variables-missing", "warning", message, nodes=_names(weights)))
    elif weights:
        message = f"the checkpoint lacks {_count(weights, 'variable')} that training needs: {_few(weights)}"
        problems.append(
            Problem(
                "variables-missing",
                "error",
                message,
                "Give --init-missing to initialise them",
                _names(weights),
            )
        )
    return problems


def are_lacking(variables: Iterable[Variable], checkpoint: CheckpointKeys | None) -> bool:
    """Whether a start from the checkpoint has to make variables; False where that isn't known."""
    return checkpoint is not None and any(
        has_to_be_there(variable)
        and not variable.local
        and (variable.key or variable.name) not in checkpoint
        for variable in variables
    )


def has_to_be_there(variable: Variable) -> bool:
    """Whether a state without this variable isn't whole, for training or for the graph's saver."""
    return variable.needed or variable.key is not None


def is_optimizer_state(variable: Variable) -> bool:
    """Whether it belongs to an optimizer, which makes it anew where a checkpoint lacks it."""
    last = variable.name.rpartition("/")[2].rstrip("0123456789").rstrip("_")
    return variable.slot_of is not None or last in OPTIMIZER_STATE


def _mismatches(variables: Iterable[Variable], checkpoint: CheckpointKeys) -> Iterable[Problem]:
    for variable in variables:
        saved = checkpoint.get(variable.key or variable.name)
        if saved is None:
            continue
        if saved.dtype != variable.dtype:
            message = f"{variable.name} is {variable.dtype} in the graph and {saved.dtype} in the checkpoint"
            yield Problem(
                "variable-dtype",
                "error",
                message,
                "Use the checkpoint that belongs to this .meta",
                (variable.name,),
            )
        elif not _fits(variable, saved):
            shape = variable.saved_shape if variable.slice_spec else variable.shape
            message = f"{variable.name} has shape {_show(shape)} in the graph and {_show(saved.shape)} in the checkpoint"
            yield Problem(
                "variable-shape",
                "error",
                message,
                "Use the checkpoint that belongs to this .meta",
                (variable.name,),
            )


def _fits(variable: Variable, saved: CheckpointTensor) -> bool:
    shape = variable.saved_shape if variable.slice_spec else variable.shape
    if shape is None or saved.shape is None:
        return True
    return len(shape) == len(saved.shape) and all(
        one is None or other is None or one == other
        for one, other in zip(shape, saved.shape, strict=True)
    )


def _without_initializer(missing: Iterable[Variable]) -> list[Problem]:
    lost = [variable for variable in missing if variable.initializer is None]
    if not lost:
        return []
    message = f"the checkpoint lacks {_few(lost)}, and the graph has no initialiser for them either"
    return [
        Problem(
            "no-initializer", "error", message, "Use a checkpoint that holds them", _names(lost)
        )
    ]


def _count(variables: list[Variable], what: str) -> str:
    return f"1 {what}" if len(variables) == 1 else f"{len(variables)} {what}s"


def _names(variables: Iterable[Variable]) -> tuple[str, ...]:
    return tuple(variable.name for variable in variables)


def _few(variables: list[Variable]) -> str:
    names = [variable.name for variable in variables]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _show(shape: Shape) -> str:
    return (
        "unknown"
        if shape is None
        else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
    )
