"""When is it proved that a group computes what one process would, and who tries it?

Rule: once, at the first start of a run with several batches a step, and again only where a later
start asks for other arithmetic than what the record holds; before anything is placed. Whatever goes
wrong with the trial (``trial``) is a reason why nothing was proved; it never ends a run.
"""

from __future__ import annotations

import logging
import pickle
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig
from orchestrator.driver.beginning import Ready
from orchestrator.driver.edited_graph import once_edited
from orchestrator.driver.proof import Proof, judged, quoted, unproved
from orchestrator.driver.ray_link import RayLink
from orchestrator.driver.slots import as_recorded, scale_of, slots_of, weight_of
from orchestrator.driver.startup import Plan, StartPoint, make_plan, start_point
from orchestrator.driver.trial import ask, asked_of_ray
from orchestrator.errors import OrchestratorError
from orchestrator.graph.random.deterministic import without_chance
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.objects.location import open_location
from orchestrator.store.objects.private import scratch
from orchestrator.store.run.run_record import RunRecord
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.workers.foreign_text import last_line

log = logging.getLogger("tfresume")
PATIENCE_S = 5.0
"""A trial beside other work that takes longer is spoken of: the run seems to stand still."""
TRYING = (
    "trying on the first batches whether a group computes what one process would "
    "(once for a run; --no-prove skips it)"
)
SLOTS_AT_MOST = 8
"""More slots tell nothing that eight don't, and one process computes them all."""


def is_wanted(config: RunConfig, slots: int, record: RunRecord | None) -> bool:
    """Whether this start has to be proved.

    Args:
        slots: batches in a step.
        record: of the run's first start, None where this is it.
    """
    if slots < 2 or config.prove is False:
        return False
    if record is None or config.prove:
        return True
    asked = (slots, scale_of(config, record), weight_of(config, record))
    known = (record.batches_per_step, record.gradient_scale, record.weight_by)
    return record.batches_per_step is not None and asked != known


def why_not(graph: WorkerGraph) -> str:
    """What keeps a graph from being tried at all; empty where nothing does."""
    if graph.group_refused:
        return f"it trains on one worker only: {graph.group_refused}"
    if graph.tables:
        return "each worker holds some rows of its tables, and it's tried with all of them"
    if any(port.pull for port in graph.inputs):
        return "the graph's own pipeline makes the batches, so none can be joined"
    if not graph.inputs:
        return "the graph takes no batch"
    return ""


class Proving:
    """A trial under way; begun where it's made, unless a Ray actor will do it.

    Args:
        record: of the run's first start, None where this is it.
    """

    def __init__(
        self,
        config: RunConfig,
        start: StartPoint,
        plan: Plan,
        slots: int,
        record: RunRecord | None,
    ) -> None:
        self._config, self._start, self._plan = config, start, plan
        self._slots, self._record = slots, record
        self._child: subprocess.Popen[str] | None = None
        self._over = False
        self._proof: Proof | None = None
        self._thread: threading.Thread | None = None
        if config.address is None:
            self._thread = threading.Thread(target=self._try, name="tfresume-proof", daemon=True)
            self._thread.start()

    def result(self) -> Proof:
        """The proof, waited for; Ray can be used by now."""
        if self._thread is None:
            log.info(TRYING)
            self._try()
        else:
            self._thread.join(PATIENCE_S)
            if self._thread.is_alive():
                log.info(TRYING)
            self._thread.join()
        return self._proof or unproved("the process that tried it was ended")

    def close(self) -> None:
        """End a trial that nobody waits for any more."""
        self._over = True
        if self._child is not None:
            self._child.kill()

    def _try(self) -> None:
        try:
            self._proof = self._judged()
        except OrchestratorError as error:
            self._proof = unproved(quoted(error.message))
        except Exception as error:  # noqa: BLE001 - only what was tried failed: the run tells of itself
            self._proof = unproved(quoted(last_line(error)))

    def _judged(self) -> Proof:
        config = as_recorded(self._config, self._record)
        reason = why_not(self._plan.graph)
        if reason:
            return unproved(reason)
        plan, left = held_still(config, self._start, self._plan)
        if left:
            return unproved(f"the random operation {left} can't be held still")
        found = self._asked(task_of(config, self._start, plan, self._slots))
        return judged(found, config, batches_per_step=self._slots)

    def _asked(self, task: Mapping[str, Any]) -> dict[str, Any]:
        if self._config.address is None:
            return ask(pickle.dumps(dict(task)), self._begun)
        return asked_of_ray(task, self._config)

    def _begun(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        if self._over:
            child.kill()


@contextmanager
def proving(
    config: RunConfig, ready: Ready, record: RunRecord | None
) -> Iterator[Callable[[], Proof | None]]:
    """A trial that goes on beside what is done meanwhile; what is given waits for it.

    It gives None where nothing has to be proved, and raises GraphRefused where the group computes
    something else and that isn't accepted.
    """
    slots = ready.slots.count or ready.slots.first
    if not is_wanted(config, slots, record):
        yield lambda: None
        return
    trial = Proving(config, ready.start, ready.plan, slots, record)

    def wait() -> Proof:
        proof = trial.result()
        if not config.accept_differences:
            proof.refuse(ready.start.source.meta.shown)
        return proof

    try:
        yield wait
    finally:
        trial.close()


def prove(config: RunConfig) -> Proof | None:
    """The proof of a source as a first start would have it; None with one batch a step.

    Args:
        config: ``output`` and where the run ends don't count.

    Raises:
        ConfigError: and its subclasses, where ``resume`` would refuse the run.
    """
    with scratch("prove") as room, ExitStack() as stack:
        ends = {"output": str(room / "out"), "until_step": 0, "steps": None}
        asked = as_recorded(config.model_copy(update=ends), None)
        start = start_point(asked, open_location(asked.output), None)
        plan = make_plan(asked, start)
        slots = slots_of(asked, plan.graph, None)
        count = slots.count or slots.first
        if count < 2:
            return None
        if config.address is not None:
            link = RayLink(asked)
            stack.callback(link.close)
            link.wait()
        trial = Proving(asked, start, plan, count, None)
        stack.callback(trial.close)
        return trial.result()


def held_still(config: RunConfig, start: StartPoint, plan: Plan) -> tuple[Plan, str]:
    """The plan of the same graph without chance, and the first random operation that can't be held
    still; empty where all can.
    """
    drawing = (*plan.graph.random_nodes, *plan.graph.stateful_random)
    if not drawing:
        return plan, ""
    # What initialisers draw is drawn once for both. Held still, a new layer's outputs would be all
    # the same, and the gradients below it nothing but rounding
    scope = f"{config.import_scope.rstrip('/')}/" if config.import_scope else ""
    still = without_chance(
        MetaGraphDef.FromString(plan.graph.original_meta),
        only=frozenset(name.removeprefix(scope) for name in drawing),
    )
    if still.left:
        return plan, still.left[0]
    with scratch("still") as room:
        path = room / "still.meta"
        path.write_bytes(still.meta.SerializeToString())
        calm = once_edited(config, of_this_run=start.own_label is not None)
        calm = calm.model_copy(update={"meta": str(path)})
        return make_plan(calm, replace(start, own_label=None)), ""


def task_of(config: RunConfig, start: StartPoint, plan: Plan, slots: int) -> dict[str, Any]:
    """The fields of ``training.proof.measuring.TrialTask``, but for ``cache``.

    Args:
        config: as the run goes, its record looked at.
        slots: batches in a step.
    """
    options = TrainingOptions(
        batches_per_step=min(slots, SLOTS_AT_MOST),
        gradient_scale=config.gradient_scale or "auto",
        seed=config.seed,
        deterministic=config.deterministic,
        gpu=config.workers.gpus > 0,
        gpu_memory_fraction=config.workers.gpus if 0 < config.workers.gpus < 1 else None,
        import_modules=tuple(config.import_modules),
        load_op_library=tuple(config.load_op_library),
        py_func=dict(config.py_func),
    )
    files = tuple(start.source.files)
    return {
        "graph": plan.graph,
        "options": options,
        "config": config,
        "files": files,
        "step": plan.step,
    }
