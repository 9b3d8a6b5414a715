"""What exactly is fed and fetched in each phase of a step that a group takes?

Rule: compute phases fetch what stands before the seams and run no operation that writes; one apply
phase feeds the group's values and runs the train operation, whose writers all stand behind the
seams. Everything is resolved once per session, each run is a prepared call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.host.seams import Level, Opening, Seams
from orchestrator.training.host.weighing import weighed, weight_of
from orchestrator.training.state.written_rows import WrittenRows
from orchestrator.training.step.stepping import Shown, number_of

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Computed:
    """What one batch gave in one compute phase.

    Attributes:
        dense: one array per dense seam of the level.
        rows: (values, indices) per sparse seam.
        watched: a number per tensor that is shown and known in this phase.
        summaries: tag to number, where they were asked for.
        names: of the tensors in ``dense``.
        weight: what the batch counts by; None where all count the same. Gradients that are weighted
            are multiplied by it already.
    """

    dense: tuple[np.ndarray, ...]
    rows: tuple[tuple[np.ndarray, np.ndarray], ...]
    watched: dict[str, float]
    summaries: dict[str, float]
    weight: float | None = None
    names: tuple[str, ...] = ()


class Phases:
    """The phases of every train operation of one imported graph.

    Args:
        graph: the train operations.
        seams: where they are cut.
        shown: what each target shows besides.
        written: is told which rows of divided tables are written; None where nobody asks.
    """

    def __init__(
        self,
        graph: WorkerGraph,
        seams: Seams,
        shown: Sequence[Shown],
        written: WrittenRows | None = None,
    ) -> None:
        self._targets, self._written = graph.targets, written
        self._weight = graph.weight
        self._seams = seams
        self._shown = [self._by_round(number, each) for number, each in enumerate(shown)]

    def levels(self, target: int) -> tuple[Level, ...]:
        """The rounds of a target."""
        return self._seams.levels(target)

    def watched(self, target: int, round_number: int) -> tuple[str, ...]:
        """The tensors that a phase shows; ``len(levels)`` is the apply phase."""
        return self._shown[target][round_number].watched

    def compute(
        self, session: LiveSession, target: int, round_number: int, feeds: Feeds, *, summaries: bool
    ) -> Computed:
        """One compute phase for one batch.

        Args:
            feeds: the batch, the key of its random numbers, and what earlier rounds gave.
        """
        level = self._seams.levels(target)[round_number]
        shown = self._shown[target][round_number]
        names = (*self._fetches(level), *_names(shown, summaries))
        values = values_of(session, (), names, feeds)
        watched, tags = _numbers(shown, values, summaries)
        weight = None if self._weight is None else weight_of(values[self._weight], self._weight)
        return Computed(
            tuple(_taken(opening, values, weight) for opening in level.dense),
            tuple(
                (_taken(rows, values, weight), np.asarray(values[indices.fetch]))
                for rows, indices in level.rows
            ),
            watched,
            tags,
            weight,
            level.dense_names,
        )

    def _fetches(self, level: Level) -> tuple[str, ...]:
        return level.fetches if self._weight is None else (*level.fetches, self._weight)

    def apply(
        self, session: LiveSession, target: int, feeds: Feeds, *, summaries: bool
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The apply phase; what it watched and its summaries.

        Args:
            feeds: a batch, the keys of random numbers, and what all rounds gave.
        """
        shown = self._shown[target][len(self._seams.levels(target))]
        names = (*_names(shown, summaries), *self._rows_written(target))
        values = values_of(session, (self._targets[target].op,), names, feeds)
        if self._written is not None:
            self._written.note(target, values)
        return _numbers(shown, values, summaries)

    def _rows_written(self, target: int) -> tuple[str, ...]:
        return () if self._written is None else self._written.tensors(target)

    def prepare(self, session: LiveSession, target: int, feeds: Sequence[str]) -> None:
        """Make the calls of a usual run ahead of the first one.

        Args:
            feeds: a batch, and the keys of random numbers.
        """
        names = list(feeds)
        for number, level in enumerate(self._seams.levels(target)):
            wanted = unfed((*self._fetches(level), *self._shown[target][number].watched), names)
            if wanted:
                session.callable((), wanted, names)
            names += [opening.feed for opening in level.dense] + [
                opening.feed for pair in level.rows for opening in pair
            ]
        shown = self._shown[target][len(self._seams.levels(target))].watched
        last = (*shown, *self._rows_written(target))
        session.callable((self._targets[target].op,), unfed(last, names), names)

    def _by_round(self, target: int, shown: Shown) -> list[Shown]:
        count = len(self._seams.levels(target)) + 1
        watched = {tensor: self._seams.round_of(target, tensor) for tensor in shown.watched}
        tagged = {pair: self._seams.round_of(target, pair[1]) for pair in shown.summaries}
        return [
            Shown(
                tuple(tensor for tensor, place in watched.items() if place == number),
                tuple(pair for pair, place in tagged.items() if place == number),
            )
            for number in range(count)
        ]


def values_of(
    session: LiveSession, operations: tuple[str, ...], fetches: Sequence[str], feeds: Feeds
) -> dict[str, Any]:
    """What a run fetches, by name; operations are run with it."""
    # What is fed, such as gradients that come as placeholders, is what it's fed: a prepared
    # call refuses to fetch it
    wanted = unfed(fetches, feeds)
    if not operations and not wanted:
        return {name: feeds[name] for name in fetches}  # TensorFlow refuses to run nothing
    call = session.callable(operations, wanted, tuple(feeds))
    values = dict(zip(wanted, call(*feeds.values()), strict=True))
    return {name: values[name] if name in values else feeds[name] for name in fetches}


def unfed(fetches: Sequence[str], feeds: Iterable[str]) -> tuple[str, ...]:
    """Of the tensors to fetch those that have to be computed, each once."""
    known = set(feeds)
    return tuple(dict.fromkeys(name for name in fetches if name not in known))


def _taken(opening: Opening, values: Mapping[str, Any], weight: float | None) -> np.ndarray:
    value = np.asarray(values[opening.fetch])
    return value if weight is None or not opening.weighted else weighed(value, weight)


def _names(shown: Shown, summaries: bool) -> tuple[str, ...]:
    return (*shown.watched, *(tensor for _, tensor in (shown.summaries if summaries else ())))


def _numbers(
    shown: Shown, values: Mapping[str, Any], summaries: bool
) -> tuple[dict[str, float], dict[str, float]]:
    watched = {name: number_of(values[name]) for name in shown.watched}
    return watched, {
        tag: number_of(values[tensor]) for tag, tensor in (shown.summaries if summaries else ())
    }
