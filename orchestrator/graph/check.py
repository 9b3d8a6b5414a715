"""Why would this graph not resume as asked?

Rule: every reason at once, each with the nodes concerned, the cause and what to do; one verdict per
mode (a group of workers, one worker). ``resume`` runs the same check before it starts anything.
What ``--force`` can mean something for turns into a warning then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.errors import GraphRefused
from orchestrator.graph.external_access import UntrustedOp, untrusted_ops, untrusted_problems
from orchestrator.graph.graphdef.executed import executed_nodes, likely_executed_nodes
from orchestrator.graph.graphdef.library import every_node, reachable_functions
from orchestrator.graph.graphdef.opset import OpSet
from orchestrator.graph.graphdef.view import GraphView
from orchestrator.graph.importing.compat import compat_problems, kernel_problems
from orchestrator.graph.importing.repair import repair
from orchestrator.graph.inputs.diagnosis import Outside
from orchestrator.graph.inputs.feed_plan import NOTHING_KNOWN
from orchestrator.graph.inputs.sources import revived_tokens
from orchestrator.graph.inputs.supplied import supplied_problems
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.graph.plan import GraphPlan, plan
from orchestrator.graph.problem import Problem
from orchestrator.graph.repetition.scale_problems import in_short
from orchestrator.graph.tables.shares import Sharing, sharing
from orchestrator.graph.variables.checkpoint_keys import CheckpointKeys
from orchestrator.graph.variables.memory import FreeMemory, MemoryNeed, memory_need, memory_problems

Mode = Literal["group", "one"]
MODES: tuple[Mode, ...] = ("group", "one")


@dataclass(frozen=True)
class ModeVerdict:
    """Whether a mode works, and the codes of the errors if it doesn't."""

    mode: Mode
    resumes: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class CheckReport:
    """The answer of ``tfresume check``.

    Attributes:
        problems: errors first; what ``--force`` overrides is a warning here.
        asked: the mode that the configuration asks for.
        repairs: what is mended in memory, in words.
        plan: what would run; its ``worker_graph`` is None where an error prevents it.
        sharing: what tables divided among the workers would change; None where nothing is planned.
    """

    problems: tuple[Problem, ...]
    verdicts: tuple[ModeVerdict, ...]
    asked: Mode
    repairs: tuple[str, ...]
    untrusted: tuple[UntrustedOp, ...]
    memory: MemoryNeed | None
    plan: GraphPlan
    sharing: Sharing | None = None

    @property
    def resumes(self) -> bool:
        """Whether the run that was asked for can start."""
        return next(verdict.resumes for verdict in self.verdicts if verdict.mode == self.asked)

    @property
    def exit_code(self) -> int:
        """0 or 2, as the command exits."""
        return 0 if self.resumes else 2

    def as_dict(self) -> dict[str, Any]:
        """The report as ``check --json`` prints it."""
        return {
            "resumes": self.resumes,
            "asked": self.asked,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "problems": [asdict(problem) for problem in self.problems],
            "repairs": list(self.repairs),
            "untrusted_ops": [asdict(item) for item in self.untrusted],
            "memory": None if self.memory is None else asdict(self.memory),
            "sharing": None if self.sharing is None else self.sharing.as_dict(),
            "plan": _plan_in_short(self.plan),
        }

    def refuse(self, name: str) -> None:
        """Raise what keeps the asked run from starting.

        Raises:
            GraphRefused: there is an error for the asked mode; ``details["problems"]`` has them
                all.
        """
        errors = [
            problem
            for problem in self.problems
            if problem.severity == "error" and self.asked in problem.modes
        ]
        if not errors:
            return
        first = errors[0]
        more = (
            ""
            if len(errors) == 1
            else f" (and {len(errors) - 1} more; `tfresume check` lists them)"
        )
        details = {"problems": [asdict(problem) for problem in self.problems]}
        raise GraphRefused(
            f"{name} can't be resumed as asked: {first.message}{more}",
            remedy=first.remedy,
            details=details,
        )


def check(
    meta: MetaGraphDef,
    config: RunConfig,
    *,
    checkpoint: CheckpointKeys | None = None,
    memory: FreeMemory | None = None,
    also: Iterable[Problem] = (),
    outside: Outside = NOTHING_KNOWN,
    loading: Loading = AS_SAVED,
) -> CheckReport:
    """Plan the run and collect everything that speaks against it.

    Args:
        checkpoint: what the checkpoint holds, seen through ``loading``; None skips the comparison
            with it.
        memory: what the workers have; None skips that question.
        also: what was found elsewhere and belongs into the same report (a damaged checkpoint).
        outside: what was found out about the graph's input pipelines where the workers will run.
        loading: how the source's checkpoint is read.
    """
    repaired = repair(meta, config)
    planned = plan(
        *(meta, config),
        checkpoint=checkpoint,
        outside=outside,
        repaired=repaired,
        loading=loading,
        memory=memory,
    )
    mended, ops, repairs = repaired.meta, repaired.ops, repaired.done
    running, executed = _running(planned, mended, ops)
    untrusted = untrusted_ops(
        running.graph_def,
        ops,
        executed,
        allow=config.allow_op,
        path_map=config.path_map,
        py_func=revived_tokens(running.graph_def, config.py_func),
    )
    gpu = config.workers.gpus > 0
    graph = planned.worker_graph
    rows = frozenset() if graph is None else graph.tables.members
    need = None if graph is None else memory_need(planned.held, gpu=gpu, rows=rows)
    found = [
        *also,
        *planned.problems,
        *compat_problems(
            mended,
            ops,
            libraries=[*config.load_op_library, *config.import_modules],
            force=config.force,
            found=repaired.found,
        ),
        *supplied_problems(GraphView(mended.graph_def), config, planned.worker_graph),
        *kernel_problems(_executed_with_bodies(running, executed), ops, gpu=gpu),
        *untrusted_problems(untrusted),
        *(memory_problems(need, memory) if need is not None and memory is not None else ()),
        *(
            Problem(
                "repaired",
                "warning",
                said,
                "Nothing to do: repaired in memory and in what is saved",
            )
            for said in repairs
        ),
    ]
    problems = ordered(found, force=config.force)
    verdicts = tuple(_verdict(mode, problems, planned.group_refused) for mode in MODES)
    asked: Mode = "group" if config.exchanges else "one"
    shared = None if planned.whole is None else sharing(planned.whole, config, memory)
    return CheckReport(problems, verdicts, asked, repairs, untrusted, need, planned, shared)


def _running(
    planned: GraphPlan, mended: MetaGraphDef, ops: OpSet
) -> tuple[MetaGraphDef, frozenset[str]]:
    """The graph that workers import, and what they execute of it; the best guess where nothing
    could be planned.
    """
    if planned.worker_graph is None:
        return mended, likely_executed_nodes(mended, ops)
    meta = MetaGraphDef.FromString(planned.worker_graph.meta)
    return meta, executed_nodes(meta, planned.worker_graph)


def ordered(problems: Iterable[Problem], *, force: bool) -> tuple[Problem, ...]:
    """Each problem once, errors first; with ``force`` the forceable errors as warnings."""
    unique = dict.fromkeys(
        replace(problem, severity="warning") if force and problem.forceable else problem
        for problem in problems
    )
    return tuple(sorted(unique, key=lambda problem: problem.severity != "error"))


def _executed_with_bodies(
    meta: MetaGraphDef, executed: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    reached = reachable_functions(
        meta.graph_def, [node for node in meta.graph_def.node if node.name in executed]
    )
    for function, node in every_node(meta.graph_def):
        if (function in reached) if function else (node.name in executed):
            yield function, node


def _verdict(mode: Mode, problems: Iterable[Problem], group_refused: str) -> ModeVerdict:
    """One mode's verdict; that a group is refused is only a warning to a run that asked for one
    worker.
    """
    reasons = dict.fromkeys(
        problem.code
        for problem in problems
        if problem.severity == "error" and mode in problem.modes
    )
    if mode == "group" and group_refused:
        reasons["group-refused"] = None
    return ModeVerdict(mode, not reasons, tuple(reasons))


def _plan_in_short(planned: GraphPlan) -> dict[str, Any] | None:
    graph = planned.worker_graph
    if graph is None:
        return None
    return {
        "train_ops": [
            {"op": target.op, "ratio": target.ratio, "updates": list(target.updates)}
            for target in graph.targets
        ],
        "inputs": [
            {
                "name": port.name,
                "dtype": port.dtype,
                "shape": port.shape,
                "origin": port.origin,
                "optional": port.optional,
            }
            for port in graph.inputs
        ],
        "step": None if graph.step is None else asdict(graph.step),
        "losses": list(graph.losses),
        "cut": graph.cut_rule,
        "gradients": in_short(graph.targets),
        "group_refused": graph.group_refused,
    }
