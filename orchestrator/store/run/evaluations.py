"""What do evaluators write beside a run, and which checkpoints do they need?

Rule: an evaluator has a name and a directory of its own, which one process at a time writes to: it
holds the lease in it, as a driver holds the run's. Each result is created once, so whoever goes on
after a loss knows what was evaluated; metrics that are asked for later are added to it. A
checkpoint that a living evaluator reads is held, and the best one of any evaluator is kept for
good; whoever deletes asks ``Holds``.

::

    _tfresume/evaluations/NAME/
      _tfresume/lease/…               who evaluates under this name
      results/a0001-g0001.NAME-11000.json
      holding.json                    the checkpoint that is being read; its writer lives, or it's void
      best.json                       the best so far
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.decide.holding import Hold, Watch
from orchestrator.errors import AlreadyExists, ConfigError, OutputError
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.layout import CONTROL
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.records import decode, encode, read_record
from orchestrator.store.run.beating import beats
from orchestrator.store.run.lease import BEATS_PER_LEASE, looked

log = logging.getLogger("tfresume")
DIRECTORY = "evaluations"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Evaluation(BaseModel):
    """What a checkpoint was found to give."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    label: str
    """The checkpoint's, below the output."""
    step: int
    metrics: dict[str, float]
    """Tensor name to its mean over the batches, weighted by their rows."""
    rows: int
    """Of all batches; 0 where they aren't known, and all batches counted the same."""
    batches: int
    seconds: float
    at: float
    """Unix seconds by the evaluator's clock, for people."""
    token: str = Field(default_factory=lambda: uuid.uuid4().hex)


class Best(BaseModel):
    """The best checkpoint so far, by one metric."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")

    label: str
    step: int
    metric: str
    better: Literal["max", "min"]
    value: float


class _Holding(BaseModel):
    label: str = ""


class Evaluations:
    """The directory of one evaluator.

    Args:
        output: of the run.
        name: of the evaluator.

    Raises:
        ConfigError: the name can't be a directory's.
    """

    def __init__(self, output: Location, name: str) -> None:
        check_name(name)
        self.output, self.name = output, name
        self.place = output.child(CONTROL, DIRECTORY, name)

    def results(self) -> dict[str, Evaluation]:
        """Label to result. Raises OutputError (damaged), StorageUnavailable."""
        found = (
            read_record(Evaluation, entry.location)
            for entry in self.place.child("results").list()
            if entry.name.endswith(".json")
        )
        return {item.label: item for item in found if item is not None}

    def add(self, result: Evaluation) -> None:
        """Write a result; one that is there already stays."""
        try:
            create_once(self._file(result), encode(result))
        except AlreadyExists:
            return

    def replace(self, result: Evaluation) -> None:
        """Write a result in place of the one that its checkpoint has."""
        self._file(result).write_bytes(encode(result))

    def _file(self, result: Evaluation) -> Location:
        return self.place.child("results", f"{file_name(result.label)}.json")

    def best(self) -> Best | None:
        """The best so far, None where none was chosen or the record is damaged. Raises SourceError,
        StorageUnavailable.
        """
        place = self.place.child("best.json")
        data = place.read_if_exists()
        if data is None:
            return None
        try:
            return decode(Best, data, place)
        except OutputError as error:
            # It's chosen anew from the results; a record that stays damaged mustn't fill the store
            log.warning("%s: it's taken as if no best one had been chosen", error.message)
            return None

    def keep(self, best: Best) -> None:
        """From now on this one is kept, and the one before no more."""
        self.place.child("best.json").write_bytes(encode(best))

    def held(self) -> str:
        """The label of the checkpoint that is being read, empty for none; whether its reader lives
        is another question.
        """
        found = read_record(_Holding, self.place.child("holding.json"))
        return found.label if found is not None else ""

    def hold(self, label: str) -> None:
        """Say that a checkpoint is being read; empty: none is any more."""
        self.place.child("holding.json").write_bytes(encode(_Holding(label=label)))


def check_name(name: str) -> None:
    """Whether an evaluator may be called so. Raises ConfigError: it can't be a directory's name."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"an evaluator can't be called {name!r}",
            remedy="Use letters, digits, dots, dashes and underscores",
        )


def file_name(label: str) -> str:
    """A label as a file's name: ``a0001-g0001.NAME-11000``."""
    return label.replace("/", ".")


def evaluators(output: Location) -> tuple[Evaluations, ...]:
    """Everyone who has evaluated checkpoints of a run, by name."""
    return tuple(
        Evaluations(output, entry.name)
        for entry in output.child(CONTROL, DIRECTORY).list()
        if _NAME.fullmatch(entry.name)
    )


class Holds:
    """Which checkpoints evaluators need, as somebody who may delete sees it. For one thread: a hold
    ends when its evaluator's heartbeat has stood still for its lease, by our own clock.

    Args:
        now: our monotonic clock.
        wait: for whoever asks once. An evaluator of which the first look can't tell whether it
            lives is then watched until it's known, for its lease at most; without it, for whoever
            asks again and again, it lives until later looks have told.
    """

    def __init__(
        self,
        output: Location,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        self._output, self._now, self._wait = output, now, wait
        self._watches: dict[str, Watch] = {}

    def reasons(self) -> Mapping[str, str]:
        """Label to why it's needed. Raises OutputError, StorageUnavailable: then nothing may go."""
        found: dict[str, str] = {}
        for each in evaluators(self._output):
            if (held := self._held(each)) and self._lives(each):
                found[held] = f"{each.name} is evaluating it"
            if (best := each.best()) is not None:
                found[best.label] = f"best {best.metric} of {each.name}: {best.value:.6g}"
        return found

    def _held(self, each: Evaluations) -> str:
        try:
            return each.held()
        except OutputError:
            # Which checkpoint it reads isn't known, so that nothing may go, until it says so anew;
            # one that is dead reads none, and its record mustn't stop every deletion for good
            if self._lives(each):
                raise
            return ""

    def _lives(self, each: Evaluations) -> bool:
        before = self._watches.get(each.name)
        observed, hold, watch = looked(each.place, before, self._now)
        if before is None and self._wait is not None and not beats(observed, time.time()):
            while hold is Hold.WAIT:
                self._wait(observed.sight.lease_s / BEATS_PER_LEASE / 2)
                _, hold, watch = looked(each.place, watch, self._now)
        self._watches[each.name] = watch
        return hold is not Hold.TAKE
