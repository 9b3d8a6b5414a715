"""Is resuming this checkpoint faithful?

Rule: measured, not argued. The same k steps are run three times from the same checkpoint on the same batches: by the group as ``resume``
runs it, by the group with a save and a restart in the middle, and by one bare TensorFlow process that nothing of ours touches. A save
must change nothing; group and bare process must agree within the tolerance. Where they don't, a known reason excuses no more than it can
account for: random numbers are held still and both run again, and must agree then; statistics that workers take of their own batches may
move a variable as far as training on one worker's batches alone moves it, and no further. All else is a difference.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver.main import resume
from orchestrator.driver.ray_link import RayLink
from orchestrator.driver.result import RunResult
from orchestrator.driver.startup import Plan, StartPoint, make_plan, start_point
from orchestrator.errors import ConfigError, FatalError
from orchestrator.graph.stilled import still
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.location import open_location
from orchestrator.store.private import scratch
from orchestrator.store.staging import stage
from orchestrator.training.options import TrainingOptions

STEPS = 4
TOLERANCE = 1e-4
"""Of a variable's largest value: sums in another order differ by some 1e-7 a step, a lost or doubled gradient by far more."""
SAVE_TOLERANCE = 1e-6
"""A restart restores the very bits; only an operation that isn't deterministic on this machine may differ at all."""
ROOM = 2.0
"""How much further than one worker's batches alone statistics may move a variable: the mean of the workers lies between them for what is
linear in the batch, and weights trained behind a normalisation aren't quite."""
YARDSTICK_TIMEOUT_S = 600.0

Verdict = Literal["agrees", "explained", "differs"]


@dataclass(frozen=True)
class Comparison:
    """Two runs of the same steps.

    Attributes:
        compared: how many variables.
        relative: the largest difference of any of them, relative to its largest value.
        worst: (variable, relative difference) of those over the tolerance, worst first.
        reason: why it couldn't be compared; empty where it was.
        beyond: those of ``worst`` that no known reason accounts for.
    """

    what: str
    agrees: bool | None
    tolerance: float
    compared: int = 0
    relative: float = 0.0
    worst: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    beyond: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerifyReport:
    """The answer of ``tfresume verify``.

    Attributes:
        verdict: ``agrees``; ``explained``: it differs as far as ``causes`` account for it, or couldn't be compared; ``differs``.
        moved: variables that the steps changed.
        causes: what makes a group differ from one process in this graph.
    """

    verdict: Verdict
    source: str
    workers: int
    steps: int
    start_step: int
    comparisons: tuple[Comparison, ...]
    moved: int
    causes: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 where it agrees or what differs is named, else 1."""
        return 1 if self.verdict == "differs" else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def verify(config: RunConfig, *, steps: int = STEPS, tolerance: float = TOLERANCE) -> VerifyReport:
    """Run the comparison; takes a minute, writes into a temporary directory alone.

    Args:
        config: as for ``resume``; ``output``, ``until_step``, ``steps`` and the saving flags are ignored.
        steps: how many, at least 2.

    Raises:
        ConfigError: and its subclasses, where ``resume`` would refuse the run.
        FatalError: a run that was to be compared failed.
    """
    if steps < 2:
        raise ConfigError("verify needs at least two steps: one before the save in the middle, and one after it")
    with scratch("verify") as room, ExitStack() as stack:
        asked = _for_comparison(config, room / "whole", until_step=0)
        start = start_point(asked, open_location(asked.output), None)
        plan = make_plan(asked, start)
        link = RayLink(asked)
        stack.callback(link.close)
        link.wait()
        last = plan.step + steps
        whole = _run(_for_comparison(config, room / "whole", until_step=last))
        _run(_for_comparison(config, room / "halves", until_step=plan.step + steps // 2))
        halves = _run(_for_comparison(config, room / "halves", until_step=last))
        task = _task(config, plan, start.source.files, steps, str(whole.checkpoint), str(halves.checkpoint), room)
        found = _measured({**task, "tolerance": tolerance}, room)
        held = _held_still(config, plan, start, found, tolerance, steps, room)
        return report(found, plan.graph, config, steps=steps, start_step=plan.step, tolerance=tolerance, held=held)


def _held_still(
    config: RunConfig,
    plan: Plan,
    start: StartPoint,
    found: Mapping[str, Any],
    tolerance: float,
    steps: int,
    room: Path,
) -> Mapping[str, Any] | None:
    """The same comparison with all random numbers held still; None where it isn't wanted."""
    apart = found["bare"] is not None and any(item["relative"] > tolerance for item in found["bare"])
    if not apart or not _drawn(plan.graph):
        return None
    stilled = still(MetaGraphDef.FromString(plan.graph.original_meta))
    if stilled.left:
        return {"bare": None, "shares": {}, "reason": f"{stilled.left[0]} can't be held still"}
    path = room / "stilled.meta"
    path.write_bytes(stilled.meta.SerializeToString())
    asked = _for_comparison(config.model_copy(update={"meta": str(path)}), room / "stilled", until_step=plan.step + steps)
    calm = make_plan(asked, start)
    ended = _run(asked)
    task = _task(asked, calm, start.source.files, steps, str(ended.checkpoint), "", room)
    return _measured({**task, "tolerance": tolerance}, room)


def _for_comparison(config: RunConfig, output: Path, *, until_step: int) -> RunConfig:
    """The run that was asked for, into ``output`` and deterministic, with one save at its end."""
    changes = {
        "output": str(output),
        "until_step": until_step,
        "steps": None,
        "save_steps": None,
        "save_secs": 86400.0,
        "max_to_keep": 0,
        "deterministic": True,
        "tensorboard": False,
        "on_nonfinite": "ignore",
        "wait": True,  # for the resources of the run before, which Ray gives back in its own time
    }
    return config.model_copy(update=changes)


def _run(config: RunConfig) -> RunResult:
    result = resume(config)
    if result.status != "done" or result.checkpoint is None:
        told = dict(result.error or {})
        raise FatalError(
            f"a run to be compared ended as {result.status!r} at step {result.final_step}: {told.get('message') or result.reason}",
            remedy=str(told.get("remedy") or "Run the same flags with `tfresume resume` to see why"),
        )
    return result


def _task(
    config: RunConfig, plan: Plan, files: Sequence[Any], steps: int, whole: str, halves: str, room: Path
) -> Mapping[str, Any]:
    size = 1 if plan.graph.group_refused else config.workers.count
    options = TrainingOptions(
        import_modules=tuple(config.import_modules), load_op_library=tuple(config.load_op_library), py_func=dict(config.py_func)
    )
    return {
        "graph": plan.graph,
        "options": options,
        "config": config,
        "prefix": str(stage(files, room / "source")),
        "world_size": size,
        "steps": steps,
        "start_step": plan.step,
        "whole": whole,
        "halves": halves,
        "bare": not any(port.pull for port in plan.graph.inputs),
    }


def _measured(task: Mapping[str, Any], room: Path) -> dict[str, Any]:
    """The yardstick's answer, from a process that may import TensorFlow."""
    given, answer = room / "task.pickle", room / "answer.json"
    given.write_bytes(pickle.dumps(dict(task)))
    command = [sys.executable, "-m", "orchestrator.training.yardstick", str(given), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=YARDSTICK_TIMEOUT_S, check=False)
    if done.returncode or not answer.exists():
        raise FatalError(f"the bare process failed: {done.stderr.strip()[-2000:] or f'exit code {done.returncode}'}")
    found: dict[str, Any] = json.loads(answer.read_text())
    if "error" in found:
        raise FatalError(f"the bare process failed: {found['error']['message']}", remedy=str(found["error"]["remedy"]))
    return found


def report(
    found: Mapping[str, Any],
    graph: WorkerGraph,
    config: RunConfig,
    *,
    steps: int,
    start_step: int,
    tolerance: float,
    held: Mapping[str, Any] | None = None,
) -> VerifyReport:
    """Judge the distances that were measured.

    Args:
        found: the yardstick's answer.
        held: its answer with random numbers held still, where that was asked.
    """
    pulled = any(port.pull for port in graph.inputs)
    reason = "the graph's own pipeline decides which batches come in which order" if pulled else str(found["reason"])
    bare = _comparison("the group and one bare TensorFlow process", found, tolerance, reason, graph)
    save = _comparison("with and without a save and a restart in the middle", {"bare": found["save"]}, SAVE_TOLERANCE, "", None)
    calm = (
        None
        if held is None
        else _comparison("the same with random numbers held still", held, tolerance, str(held["reason"]), graph)
    )
    causes = tuple(_causes(graph, config)) if not bare.agrees else ()
    verdict = _verdict(bare, save, calm)
    workers = 1 if graph.group_refused else config.workers.count
    compared = (bare, save) if calm is None else (bare, save, calm)
    return VerifyReport(verdict, config.source, workers, steps, start_step, compared, int(found["moved"]), causes)


def _verdict(bare: Comparison, save: Comparison, calm: Comparison | None) -> Verdict:
    if save.agrees is False:
        return "differs"
    if bare.agrees:
        return "agrees"
    decisive = bare if calm is None else calm
    return "differs" if decisive.beyond else "explained"


def _comparison(what: str, found: Mapping[str, Any], tolerance: float, reason: str, graph: WorkerGraph | None) -> Comparison:
    measured = found["bare"]
    if measured is None:
        return Comparison(what, None, tolerance, reason=reason)
    over = tuple((str(item["name"]), float(item["relative"])) for item in measured if item["relative"] > tolerance)
    largest = max((float(item["relative"]) for item in measured), default=0.0)
    bounds = found.get("shares", {}) if graph is not None and _statistics(graph) else {}
    beyond = tuple(name for name, relative in over if relative > tolerance + ROOM * float(bounds.get(name, 0.0)))
    return Comparison(what, not over, tolerance, len(measured), largest, over, beyond=beyond)


def _drawn(graph: WorkerGraph) -> tuple[str, ...]:
    return (*graph.random_nodes, *graph.stateful_random)


def _statistics(graph: WorkerGraph) -> list[str]:
    """Seams of what isn't a gradient: moving averages and counts that each worker takes of its own batches."""
    return [seam.node for target in graph.targets for seam in target.dense if seam.role == "update"]


def _causes(graph: WorkerGraph, config: RunConfig) -> Iterator[str]:
    """What makes this graph's training on several workers differ from one process, or one run from the next."""
    drawn = _drawn(graph)
    if drawn:
        yield (
            f"{len(drawn)} random operations (dropout, noise), such as {drawn[0]}: tfresume draws by the number of the batch, bare "
            "TensorFlow by a state of its own"
        )
    if any(port.pull for port in graph.inputs):
        yield "the order of the batches that the graph's own input pipeline makes"
    if config.workers.count > 1 and not graph.group_refused:
        updates = _statistics(graph)
        if updates:
            yield (
                f"{len(updates)} moving statistics, such as {updates[0]}: averaged over the workers' batches, where one process "
                "takes them over all rows at once"
            )
