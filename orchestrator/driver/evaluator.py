"""How are a run's checkpoints evaluated while it goes on?

Rule: an evaluator holds its own directory below the output as a driver holds the run, looks at the
run again and again, and does what ``decide.evaluating`` says. A checkpoint is held from before it's
read until its result, the best one and its TensorBoard events are written; so a loss at any moment
costs one evaluation done again, and nothing that it reads or keeps is deleted under it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from orchestrator.config import RunConfig
from orchestrator.decide.evaluating import Over, Seen, Take, after_look
from orchestrator.decide.holding import Hold, Watch, look
from orchestrator.driver.best_checkpoint import BestCheckpoint
from orchestrator.driver.evaluate import Evaluated, measured
from orchestrator.driver.evaluator_tenure import ended_by_sigterm, held
from orchestrator.driver.following import Followed, Following
from orchestrator.driver.inference import needs_ray
from orchestrator.driver.tensorboard_events import encoded
from orchestrator.errors import (
    AlreadyExists,
    ConfigError,
    CorruptCheckpoint,
    OrchestratorError,
    OutputError,
    SourceError,
    StorageUnavailable,
)
from orchestrator.journal.parsing import parse
from orchestrator.journal.run_events import RunEnded
from orchestrator.store.checkpoints.retention import is_taken
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, list_checkpoints
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.checkpoints.verification import speaks_of_content
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.evaluations import Best, Evaluation, Evaluations, file_name
from orchestrator.store.run.journal import read_journal_tail
from orchestrator.store.run.journal_parts import DamagedPart
from orchestrator.store.run.lease import Lease, observe

log = logging.getLogger("tfresume")
LAST_EVENTS = 3
"""Of a journal: the end of a run may be followed by a last sign of progress."""


def follow(
    config: RunConfig,
    asked: Following,
    *,
    told: Callable[[Evaluation, Best | None], None] = lambda result, best: None,
) -> Followed:
    """Evaluate each checkpoint of a run as it's committed, until the run ends.

    Args:
        config: ``source`` is the run's output; else as for ``evaluate``.
        told: is given each new result, and the best checkpoint so far.

    Raises:
        ConfigError: as ``Following.check``.
        OutputError: another process evaluates under this name.
        GraphRefused, SourceError, UserCodeError: as ``evaluate``; the same call goes on.
        LeaseLost: another process took over, since this one was silent for long.
        StorageUnavailable: the store hasn't answered for ``patience_s``.
        KeyboardInterrupt, Preempted: Ctrl-C and SIGTERM; nothing is left but the results.
    """
    asked.check(config)
    output = open_location(config.source)
    if not observe(output).sight.number:
        log.warning("there is no run at %s yet; it's waited for", output.shown)
    with contextlib.ExitStack() as stack:
        if needs_ray(config):
            from orchestrator.driver.fetch_workers import connected

            stack.enter_context(connected(config))
        # After Ray, which takes SIGTERM over when it connects
        stack.enter_context(ended_by_sigterm())
        lease = stack.enter_context(held(Evaluations(output, asked.name), config.lease_s))
        return _Evaluator(output, config, asked, lease, told).run()


class _Evaluator:
    """One life of an evaluator."""

    def __init__(
        self,
        output: Location,
        config: RunConfig,
        asked: Following,
        lease: Lease,
        told: Callable[[Evaluation, Best | None], None],
    ) -> None:
        self._output, self._config, self._asked, self._lease = output, config, asked, lease
        self._told = told
        self._own = Evaluations(output, asked.name)
        self._results = self._own.results()
        # Of an earlier life that was asked for less, a checkpoint is evaluated once more
        self._done = {label for label, each in self._results.items() if asked.has_all(each.metrics)}
        self._best = BestCheckpoint(self._own, asked.keep_best, lease)
        self._skipped: dict[str, str] = {}
        self._damaged: set[str] = set()
        self._watch: Watch | None = None
        self._alive_s = time.monotonic()
        self._failing_s: float | None = None
        self._items: dict[str, Checkpoint] = {}

    def run(self) -> Followed:
        """Look and act until it's over."""
        while True:
            try:
                step = after_look(
                    self._look(), {*self._done, *self._skipped}, self._asked.patience_s
                )
                best = self._best.chosen(self._results, self._items)
                if isinstance(step, Over):
                    return self._over(step, best)
                if isinstance(step, Take):
                    self._evaluate(self._items[step.label])
            except StorageUnavailable as error:
                self._bear(error)
            else:
                self._failing_s = None
                if isinstance(step, Take):
                    continue
            time.sleep(self._asked.every_s)

    def _bear(self, error: StorageUnavailable) -> None:
        """Patience begins with the first failure: an evaluation may take longer than that."""
        now_s = time.monotonic()
        self._failing_s = now_s if self._failing_s is None else self._failing_s
        if now_s - self._failing_s > self._asked.patience_s:
            raise error
        log.warning("the output is looked at again soon: %s", error)

    def _over(self, over: Over, best: Best | None) -> Followed:
        by_age = [label for label in self._items if label in self._results]
        gone = [label for label in self._results if label not in self._items]
        ordered = sorted(
            (self._results[label] for label in (*gone, *by_age)), key=lambda each: each.step
        )
        return Followed(
            self._asked.name, tuple(ordered), best, self._skipped, over.well, over.reason
        )

    def _look(self) -> Seen:
        observed = observe(self._output)
        ended = observed.released and self._has_ended()
        # After the look at the end: what was committed before it is seen
        self._items = {item.label: item for item in reversed(list_checkpoints(self._output))}
        now_s = time.monotonic()
        hold, self._watch = look(self._watch, observed.sight, now_s)
        if hold is Hold.REFUSE:
            self._alive_s = now_s
        return Seen(tuple(self._items), ended, now_s - self._alive_s)

    def _has_ended(self) -> bool:
        records = read_journal_tail(self._output, LAST_EVENTS, self._tell)
        events = [parse(record) for record in records]
        newest = max((event.attempt or 0 for event in events), default=0)
        return any(isinstance(event, RunEnded) and event.attempt == newest for event in events)

    def _tell(self, damaged: DamagedPart) -> None:
        """Once: the end is looked for again and again."""
        if damaged.name not in self._damaged:
            self._damaged.add(damaged.name)
            log.warning("%s", damaged)

    def _evaluate(self, item: Checkpoint) -> None:
        self._lease.check()
        self._own.hold(item.label)
        try:
            if not is_taken(item):
                self._skip(item.label, "it was deleted before its turn")
            elif (found := self._measured(item)) is not None:
                self._lease.check()
                self._write(item, found)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        # Who has taken over holds one of its own by now; ours is void when this process ends
        if self._lease.is_fresh:
            with contextlib.suppress(OutputError, StorageUnavailable):
                self._own.hold("")

    def _measured(self, item: Checkpoint) -> Evaluated | None:
        """None where the checkpoint is bad or gone. What the input or the graph lacks ends it all:
        it's the same for every checkpoint.
        """
        asked = self._asked
        try:
            source = resolve_source(item.prefix.url)
            return measured(
                source,
                self._config,
                asked.fetches,
                besides=asked.besides,
                batches=asked.batches,
                place=asked.place,
            )
        except CorruptCheckpoint as error:
            self._skip(item.label, error.message)
        except SourceError:
            if not (fault := _fault(item)):
                raise
            self._skip(item.label, fault)
        return None

    def _skip(self, label: str, reason: str) -> None:
        self._skipped[label] = reason
        log.warning("%s isn't evaluated: %s", label, reason)

    def _write(self, item: Checkpoint, found: Evaluated) -> None:
        """Events and the best before the result: a loss in between has it all written again."""
        goal = self._asked.keep_best
        if goal is not None and goal.metric not in found.metrics:
            raise ConfigError(
                f"--keep-best names {goal.metric}, which isn't what was fetched",
                remedy=f"Name one of {', '.join(found.metrics)}",
            )
        before = self._results.get(item.label)
        result = Evaluation(
            label=item.label,
            step=item.step,
            metrics={**(before.metrics if before is not None else {}), **found.metrics},
            rows=found.rows,
            batches=found.batches,
            seconds=found.seconds,
            at=time.time(),
        )
        results = {**self._results, item.label: result}
        self._write_events(result, before)
        best = self._best.chosen(results, self._items)
        if before is None:
            self._own.add(result)
        else:
            self._own.replace(result)
        self._results = results
        self._done.add(item.label)
        self._told(result, best)

    def _write_events(self, result: Evaluation, before: Evaluation | None) -> None:
        known = before.metrics if before is not None else {}
        new = {name: value for name, value in result.metrics.items() if name not in known}
        if not (self._config.tensorboard and new):
            return
        tags = {f"evaluate/{name}": value for name, value in new.items()}
        # TensorBoard reads the files of a directory in the order of their names; the same name after
        # a loss
        name = f"events.out.tfevents.{result.step:012d}.{file_name(result.label)}"
        if before is not None:
            name += f".{len(result.metrics)}"
        place = self._output.child(CONTROL, "events", self._asked.name)
        with contextlib.suppress(AlreadyExists):  # of a life that ended before its result
            create_once(place.child(name), encoded([(result.at, result.step, tags)], result.at))


def _fault(item: Checkpoint) -> str:
    """Why a checkpoint can't be read as it stands now; empty where it can. Raises SourceError (no
    permission), StorageUnavailable.
    """
    try:
        resolve_source(item.prefix.url)
    except OrchestratorError as error:
        if not speaks_of_content(error):
            raise
        return error.message
    return ""
