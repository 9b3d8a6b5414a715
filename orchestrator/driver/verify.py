"""Is resuming this checkpoint faithful?

Rule: measured, not argued. The same k steps are run from the same checkpoint on the same batches:
by the group as ``resume`` runs it, by the group with a save and a restart in the middle, by one
process that takes all the batches of a step itself, and by one bare TensorFlow process that nothing
of ours touches. The first three must end with the same bytes; the last must agree within the
tolerance. Where it doesn't, and the graph draws random numbers, they are held still and both run
again. ``verdict`` judges what comes out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver.edited_graph import FIRST_START, once_edited
from orchestrator.driver.main import resume
from orchestrator.driver.proving import prove
from orchestrator.driver.ray_link import RayLink
from orchestrator.driver.result import RunResult
from orchestrator.driver.slots import slots_of
from orchestrator.driver.startup import Plan, StartPoint, make_plan, start_point
from orchestrator.driver.tensorflow_process import ask_tensorflow
from orchestrator.driver.verify_report import VerifyReport
from orchestrator.driver.verify_verdict import TOLERANCE, drawn, report
from orchestrator.errors import ConfigError, FatalError
from orchestrator.graph.random.deterministic import DeterministicGraph, without_chance
from orchestrator.store.objects.layout import MANIFEST_SUFFIX
from orchestrator.store.objects.location import open_location
from orchestrator.store.objects.manifest import read_manifest_bytes
from orchestrator.store.objects.private import scratch
from orchestrator.store.transfer.staging import stage
from orchestrator.training.engine.options import TrainingOptions

STEPS = 4
"""A step whose slots are dealt or scaled wrongly differs in the first; what an optimizer keeps
(moments, averages) shows from the second on, and a save in the middle needs two on each side.
"""
BASELINE_TIMEOUT_S = 600.0
"""Longest time for the bare process, which takes a few steps several times over: one that hangs
must not hang ``verify``.
"""


def verify(config: RunConfig, *, steps: int = STEPS, tolerance: float = TOLERANCE) -> VerifyReport:
    """Run the comparison; takes a minute, writes into a temporary directory alone.

    Args:
        config: as for ``resume``; ``output``, ``until_step``, ``steps`` and the saving flags are
            ignored.
        steps: how many, at least 2.

    Raises:
        ConfigError: and its subclasses, where ``resume`` would refuse the run.
        FatalError: a run that was to be compared failed.
    """
    if steps < 2:
        raise ConfigError(
            "verify needs at least two steps: one before the save in the middle, and one after it",
            remedy="Give --steps 2 or more",
        )
    _refuse_what_no_saver_restores(config)
    with scratch("verify") as room, ExitStack() as stack:
        asked = _for_comparison(config, room / "whole", until_step=0)
        start = start_point(asked, open_location(asked.output), None)
        plan = make_plan(asked, start)
        link = RayLink(asked)
        stack.callback(link.close)
        link.wait()
        proof = prove(config) if config.prove is not False else None
        asking = Asking(start, steps, tolerance, room)
        deterministic = (
            without_chance(MetaGraphDef.FromString(plan.graph.original_meta))
            if drawn(plan.graph)
            else None
        )
        found = asking.measured(
            "drawn", config, plan, redraw=deterministic is not None and bool(deterministic.left)
        )
        held = None
        if deterministic is not None and _differs(found, plan, tolerance):
            held = _held_still(
                asking, config, deterministic, halves=bool(plan.graph.stateful_random)
            )
        return report(
            found,
            plan.graph,
            config,
            steps=steps,
            start_step=plan.step,
            tolerance=tolerance,
            held=held,
            proof=proof,
        )


def _refuse_what_no_saver_restores(config: RunConfig) -> None:
    """The bare process restores the checkpoint with the graph's own saver, which takes all that
    the graph has, under the graph's names.
    """
    made_anew = {"swap_optimizer": None, "grow": {}, **FIRST_START}
    asked = [name for name, unasked in made_anew.items() if getattr(config, name) != unasked]
    if asked:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise ConfigError(
            f"verify compares with plain TensorFlow, which can't start from this checkpoint with {flags}",
            remedy="Resume with these flags into an output of its own (--steps 1), and verify that output without them",
        )


def _differs(found: Mapping[str, Any], plan: Plan, tolerance: float) -> bool:
    """Whether random numbers may be the reason of something."""
    exact = [*(found["slots"] or ()), *(found["save"] or ())] if plan.graph.stateful_random else []
    return any(item["relative"] > tolerance for item in found["bare"] or ()) or any(
        item["relative"] > 0 for item in exact
    )


def _held_still(
    asking: Asking, config: RunConfig, deterministic: DeterministicGraph, *, halves: bool
) -> Mapping[str, Any]:
    """The same comparison with all random numbers held still; with a restart in the middle, where
    that draws anew.
    """
    if deterministic.left:
        why = f"{deterministic.left[0]} can't be held still"
        return {"slots": None, "bare": None, "save": None, "shares": {}, "reason": why}
    path = asking.room / "deterministic.meta"
    path.write_bytes(deterministic.meta.SerializeToString())
    calm = once_edited(config).model_copy(update={"meta": str(path)})
    plan = make_plan(_for_comparison(calm, asking.room / "calm", until_step=0), asking.start)
    return asking.measured("held-still", calm, plan, halves=halves)


@dataclass(frozen=True)
class Asking:
    """What is the same for all runs that are compared.

    Attributes:
        start: the checkpoint that all of them start from.
        room: a directory of this comparison's own.
    """

    start: StartPoint
    steps: int
    tolerance: float
    room: Path

    def measured(
        self,
        label: str,
        config: RunConfig,
        plan: Plan,
        *,
        halves: bool = True,
        redraw: bool = False,
    ) -> dict[str, Any]:
        """Train the plan's graph at one go and in two halves, and ask the baselines.

        Args:
            label: names the directory of these runs.
            halves: the run with a save and a restart in the middle is wanted too.
            redraw: how far other random numbers lead is wanted too.
        """
        room = self.room / label
        room.mkdir()
        last = plan.step + self.steps
        whole = _run(_for_comparison(config, room / "whole", until_step=last))
        ends = [plan.step + self.steps // 2, last] if halves else []
        parts = [_run(_for_comparison(config, room / "halves", until_step=end)) for end in ends]
        slots = slots_of(config, plan.graph, None)
        options = _options(config, slots.count or slots.first)
        task = {
            "graph": plan.graph,
            "options": options,
            "config": config,
            "prefix": str(stage(self.start.source.files, room / "source")),
            "world_size": min(config.workers.count, options.batches_per_step),
            "steps": position_of(str(whole.checkpoint))
            // (options.batches_per_step * plan.graph.batches_per_slot),
            "start_step": plan.step,
            "whole": str(whole.checkpoint),
            "halves": str(parts[-1].checkpoint) if parts else "",
            "joint": not any(port.pull for port in plan.graph.inputs),
            "tolerance": self.tolerance,
            "redraw": redraw,
        }
        found = _measured(task, room)
        if slots.count is None:
            found |= {"slots": None, "slots_reason": "nccl adds in an order of its own"}
        return found


def position_of(checkpoint: str) -> int:
    """Batches that the group had consumed, by a checkpoint's manifest: the graph's own counter may
    have grown by more or less than one with each of its steps.
    """
    place = open_location(checkpoint + MANIFEST_SUFFIX)
    return read_manifest_bytes(place.read_bytes(), place.shown).position


def _options(config: RunConfig, slots: int) -> TrainingOptions:
    """As the workers had them."""
    return TrainingOptions(
        batches_per_step=slots,
        seed=config.seed,
        deterministic=True,
        gpu=config.workers.gpus > 0,
        import_modules=tuple(config.import_modules),
        load_op_library=tuple(config.load_op_library),
        py_func=dict(config.py_func),
    )


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
        "prove": False,  # once is enough, and ``verify`` has done it
        "wait": True,  # for the resources of the run before, which Ray gives back in its own time
    }
    return config.model_copy(update=changes)


def _run(config: RunConfig) -> RunResult:
    result = resume(config)
    if result.status != "done" or result.checkpoint is None:
        told = dict(result.error or {})
        raise FatalError(
            f"a run to be compared ended as {result.status!r} at step {result.final_step}: {told.get('message') or result.reason}",
            remedy=str(
                told.get("remedy") or "Run the same flags with `tfresume resume` to see why"
            ),
        )
    return result


def _measured(task: Mapping[str, Any], room: Path) -> dict[str, Any]:
    """The baseline's answer, from a process that may import TensorFlow."""
    answer = room / "answer.json"
    ask_tensorflow("orchestrator.training.baseline.baseline", task, answer, BASELINE_TIMEOUT_S)
    found: dict[str, Any] = json.loads(answer.read_text())
    if "error" in found:
        raise FatalError(
            f"the bare process failed: {found['error']['message']}",
            remedy=str(found["error"]["remedy"]),
        )
    return found
