"""What does a run's first start take of its source's checkpoint (``--rename``, ``--reinit``,
``--restore-only``, ``--reset-slots``, ``--reset-step``)?

Rule: decided from the graph's variables and the checkpoint's keys; a name that fits nothing is
refused. The variable that counts steps is left alone but by ``--reset-step``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from orchestrator.config import RunConfig
from orchestrator.graph.inference.roles import variable_roles
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.surgery.edits import RefusedEdit, UnderEdit, each_fits, few, matching
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys, CheckpointTensor
from orchestrator.graph.variables.fit import is_optimizer_state
from orchestrator.graph.variables.global_step import find_step
from orchestrator.graph.worker_graph import Variable


def first_loading(
    work: UnderEdit,
    variables: Mapping[str, Variable],
    config: RunConfig,
    checkpoint: CheckpointKeys | None,
) -> Loading:
    """How the source's checkpoint is read.

    Args:
        variables: of the edited graph, by name.
        checkpoint: what it holds; None where that isn't known.

    Raises:
        RefusedEdit: a name fits nothing.
    """
    if not asks(config):
        return AS_SAVED
    saved = {name: one for name, one in variables.items() if not one.local}
    step = find_step(work.graph, work.targets)
    counter = "" if step is None else step.variable
    each_fits("--reinit", saved, config.reinit)
    each_fits("--restore-only", saved, config.restore_only)
    anew = matching(saved, config.reinit)
    if anew == {counter}:
        raise RefusedEdit(
            f"--reinit {' '.join(config.reinit)} names nothing but {counter}, which counts the steps",
            "Use --reset-step 0",
            (counter,),
        )
    if config.restore_only:
        anew |= saved.keys() - matching(saved, config.restore_only)
    if config.reset_slots:
        anew |= _slots(work, saved, counter)
    anew.discard(counter)
    renamed = dict(_renamed(config.rename, saved, checkpoint))
    work.done.extend(_told(config, renamed, anew))
    return Loading(renamed, frozenset(anew), config.reset_step)


def asks(config: RunConfig) -> bool:
    """Whether the configuration says anything of the first start."""
    named = (config.rename, config.reinit, config.restore_only, config.reset_slots)
    return any(named) or config.reset_step is not None


def _slots(work: UnderEdit, variables: Mapping[str, Variable], counter: str) -> set[str]:
    roles = variable_roles(work.graph, variables.values(), counter or None)
    found = {
        name
        for name, one in variables.items()
        if is_optimizer_state(one) and roles[name] == "optimizer"
    }
    if not found:
        raise RefusedEdit(
            "--reset-slots: the graph's optimizer keeps no slots",
            "Leave it out",
        )
    return found


def _renamed(
    asked: Mapping[str, str], variables: Mapping[str, Variable], checkpoint: CheckpointKeys | None
) -> Iterator[tuple[str, str]]:
    """Key of the graph to key of the checkpoint, for each pair that was asked for."""
    keys = {one.key or one.name for one in variables.values()}
    for old, new in asked.items():
        whole = old.endswith("/") and new.endswith("/")
        wanted = [key for key in keys if key == new or (whole and key.startswith(new))]
        pairs = [(key, old + key.removeprefix(new)) for key in sorted(wanted)]
        if not pairs:
            raise RefusedEdit(
                f"--rename {old}={new}: the graph asks for no {new}",
                _near(new, keys),
                (new,),
            )
        lost = [
            stored for _, stored in pairs if checkpoint is not None and stored not in checkpoint
        ]
        if len(lost) == len(pairs):
            raise RefusedEdit(
                f"--rename {old}={new}: the checkpoint holds no {few(lost)}",
                _near(lost[0], checkpoint or ()),
                tuple(lost),
            )
        yield from (pair for pair in pairs if pair[1] not in lost)


def _near(name: str, keys: object) -> str:
    known = sorted(keys)  # type: ignore[call-overload]
    near = get_close_matches(name, known, 3, 0.5) or known[:3]
    return f"There are {', '.join(near)}; a scope is renamed with a slash at the end of both"


def _told(config: RunConfig, renamed: Mapping[str, str], anew: set[str]) -> Iterator[str]:
    if renamed:
        pairs = few([f"{stored} as {key}" for key, stored in renamed.items()])
        yield f"took from the checkpoint {pairs}"
    if anew:
        others = "others " if config.reinit or config.restore_only else ""
        what = f"slots {others and 'and '}{others}" if config.reset_slots else ""
        yield f"initialised {what}anew: {few(sorted(anew))}"
    if config.reset_step is not None:
        yield f"began at step {config.reset_step}"


def seen_through(
    loading: Loading, checkpoint: CheckpointKeys, variables: Mapping[str, Variable]
) -> CheckpointKeys:
    """What the checkpoint holds for a graph that reads it like that."""
    if loading is AS_SAVED:
        return checkpoint
    anew = {one.key or name for name, one in variables.items() if name in loading.anew}
    found = {key: tensor for key, tensor in checkpoint.items() if key not in anew}
    for key, stored in loading.renamed.items():
        if key not in anew:
            found[key] = checkpoint[stored]
    for one in (variables[name] for name in loading.grown):
        key = one.key or one.name
        if key in found and _is_shorter(found[key], one):
            found[key] = CheckpointTensor(found[key].dtype, one.shape)
    return found


def _is_shorter(saved: CheckpointTensor, variable: Variable) -> bool:
    """Whether a tensor lacks rows of a variable, and nothing else."""
    if not saved.shape or not variable.shape or None in (saved.shape[0], variable.shape[0]):
        return False
    return (saved.shape[0] or 0) < (variable.shape[0] or 0) and (
        saved.shape[1:] == variable.shape[1:]
    )
