"""How does a program continue a run in one call?

Rule: the arguments of TensorFlow's ``import_meta_graph`` under their own names, the command's
settings under theirs; what comes back is the object that ``resume --json`` prints. Nothing else
differs from the command::

    import orchestrator

    result = orchestrator.resume(source="gs://b/model.ckpt-500", output="gs://b/more",
    until_step=1000, workers=2, input="feeds:batches") result = orchestrator.resume("graph.meta",
    source="gs://b/model.ckpt-500", output="gs://b/more", steps=500, feed={"rate:0": 0.1})
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike, fspath
from typing import Any, Protocol

import numpy as np

from orchestrator.config import RunConfig, parse_config
from orchestrator.decide.evaluating import Goal
from orchestrator.driver.evaluate import Evaluated
from orchestrator.driver.evaluate import evaluate as evaluate_checkpoint
from orchestrator.driver.evaluator import follow as follow_run
from orchestrator.driver.following import Followed, Following
from orchestrator.driver.infer import infer as infer_batches
from orchestrator.driver.main import resume as resume_run
from orchestrator.driver.observer import Observer
from orchestrator.driver.result import RunResult
from orchestrator.errors import ConfigError
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.graphdef.undo import COLLECTION as RECORD
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import open_location
from orchestrator.store.objects.private import scratch
from orchestrator.store.run.evaluations import Best, Evaluation


class Serializable(Protocol):
    """A MetaGraphDef, TensorFlow's or TensorBoard's."""

    def SerializeToString(self) -> bytes:
        """The message as bytes."""


def resume(
    meta_graph_or_file: RunConfig | Serializable | str | PathLike[str] | None = None,
    clear_devices: bool = True,
    import_scope: str | None = None,
    *,
    restore_collections_predicate: Callable[[str], bool] | None = None,
    observer: Observer | Sequence[Observer] | None = None,
    **settings: Any,
) -> RunResult:
    """Continue a TensorFlow 1 run; blocks until it ends.

    Args:
        meta_graph_or_file: a ``.meta`` URL, binary or text, or a MetaGraphDef; where ``source`` is
            given too, the graph to use instead of the checkpoint's own. A whole ``RunConfig`` may
            stand here alone.
        clear_devices, import_scope: as in ``tf.compat.v1.train.import_meta_graph``.
        restore_collections_predicate: takes a collection's name; False leaves it out of the
            imported graph.
        observer: is told every journal event and progress.
        settings: every key of ``orchestrator.config.RunConfig``: ``source``, ``output``,
            ``workers``, ``until_step``, ``input_map``, ….

    Returns:
        The outcome; a run that failed while running returns its ``error`` and ``exit_code`` 1 (the
        same call goes on).

    Raises:
        ConfigError: and its subclasses: refused, with nothing started or written.
    """
    if isinstance(meta_graph_or_file, RunConfig):
        return resume_run(meta_graph_or_file, observer=observer)
    with ExitStack() as stack:
        values = settings | {"clear_devices": clear_devices, "import_scope": import_scope}
        values |= _graph_settings(meta_graph_or_file, settings, stack)
        if restore_collections_predicate is not None:
            values["drop_collection"] = dropped_collections(values, restore_collections_predicate)
        return resume_run(parse_config(values), observer=observer)


def infer(
    source: RunConfig | str | PathLike[str],
    fetches: Sequence[str] = (),
    *,
    batches: int = 1,
    **settings: Any,
) -> list[dict[str, np.ndarray]]:
    """Fetch tensors of a trained graph for some batches; trains nothing.

    Args:
        source: a run's output or any source that ``resume`` takes, or a whole ``RunConfig``.
        fetches: tensor names, ``NAME`` or ``NAME:PORT``; none for what looks most like the model's
            prediction.
        batches: how many at most; 0 for all until the input ends. Arrays are gone through once, in
            their order.
        settings: keys of ``orchestrator.config.RunConfig``: ``input``, ``array``, ``feed``,
            ``workers``, ``address``, ….

    Returns:
        For each batch, in the input's order, tensor name (with its port) to value, in the shape and
        type that the graph gives. Several workers give what one gives.

    Raises:
        ConfigError: and its subclasses: a setting, the source or a tensor's name is wrong.
        UserCodeError: the input function raised, or a batch doesn't fit.
        OrchestratorError: the checkpoint is bad, or no worker could be had.
    """
    return infer_batches(_asked(source, settings), fetches, batches=batches)


def evaluate(
    run: RunConfig | str | PathLike[str],
    fetches: Sequence[str] = (),
    *,
    step: int | None = None,
    batches: int = 0,
    **settings: Any,
) -> Evaluated:
    """Evaluate a checkpoint: means of tensors over batches, weighted by their rows.

    Args:
        run: a run's output or any source that ``resume`` takes, or a whole ``RunConfig``.
        fetches: tensors of numbers, of any shape; none for the graph's losses, or what looks most
            like its prediction.
        step: the checkpoint of that global step; None for the newest good one.
        batches: how many at most; 0 for all until the input ends. Arrays are gone through once, in
            their order.
        settings: as for ``infer``.

    Returns:
        ``metrics``: tensor name (with its port) to a float; ``step``, ``checkpoint``, ``rows``,
        ``batches``, ``seconds``, ``weighted_by``.

    Raises:
        ConfigError: and its subclasses: a setting, the source, the step or a tensor's name is
            wrong.
        UserCodeError: the input function raised, gave no batch, or a batch doesn't fit.
        OrchestratorError: the checkpoint is bad, or no worker could be had.
    """
    return evaluate_checkpoint(_asked(run, settings), fetches, step=step, batches=batches)


def follow(
    run: RunConfig | str | PathLike[str],
    fetches: Sequence[str] = (),
    *,
    keep_best: str | None = None,
    name: str = "eval",
    batches: int = 0,
    every_s: float = 5.0,
    told: Callable[[Evaluation, Best | None], None] = lambda result, best: None,
    **settings: Any,
) -> Followed:
    """Evaluate each checkpoint of a run once, as it's committed; blocks until the run ends.

    Args:
        run: a run's output, which may not have begun yet, or a whole ``RunConfig``.
        fetches, batches, settings: as for ``evaluate``.
        keep_best: ``METRIC:max`` or ``METRIC:min``: keep the best checkpoint besides the newest.
        name: of the evaluator; its results of earlier calls count.
        every_s: seconds between two looks at the run.
        told: is given each new result and the best checkpoint so far.

    Returns:
        ``evaluations``, ``best``, ``skipped``, ``well`` and ``reason``.

    Raises:
        OutputError: another process evaluates under this name.
        ConfigError, UserCodeError, OrchestratorError: as ``evaluate``; the same call goes on.
    """
    config = _asked(run, settings)
    goal = Goal.parse(keep_best) if keep_best else None
    asked = Following(
        fetches, batches, keep_best=goal, name=name, every_s=every_s, patience_s=config.wait_s
    )
    return follow_run(config, asked, told=told)


def _asked(given: RunConfig | str | PathLike[str], settings: dict[str, Any]) -> RunConfig:
    if isinstance(given, RunConfig):
        return given
    return parse_config({**settings, "source": fspath(given)})


def _graph_settings(
    given: Serializable | str | PathLike[str] | None, settings: dict[str, Any], stack: ExitStack
) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, str | PathLike):
        return {"meta" if "source" in settings else "source": fspath(given)}
    if "source" not in settings:
        raise ConfigError(
            "a MetaGraphDef alone has no variables' values",
            remedy="Name its checkpoint with source=PREFIX",
        )
    path = stack.enter_context(scratch("graph")) / "graph.meta"
    path.write_bytes(given.SerializeToString())
    return {"meta": str(path)}


def dropped_collections(values: dict[str, Any], wanted: Callable[[str], bool]) -> list[str]:
    """Names of the collections that ``wanted`` answers False to, sorted; never that of the record
    of the graph's edits, which nobody's predicate knows.
    """
    if "source" not in values:
        raise ConfigError(
            "source is missing", remedy="Name a .meta URL, a checkpoint prefix or a directory"
        )
    if values.get("meta"):
        location = open_location(values["meta"])
        meta = read_meta(location.read_bytes(), name=location.shown)
    else:
        source = resolve_source(str(values["source"]), need_checkpoint=False)
        meta = read_meta(source.meta_data, name=source.meta.shown)
    return sorted(name for name in meta.collection_def if name != RECORD and not wanted(name))
