"""What is this rank fed in the next step?

Rule: one batch for each of its slots. A batch is held until the step that used it has been applied,
so a step that is taken again gets the same batch. Batches are numbered over the whole group: of N
ranks starting at position p, rank r serves p + r, p + N + r, … Thus every batch is used once,
whatever the world size becomes in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from orchestrator.config import RunConfig
from orchestrator.errors import EndOfData, OrchestratorError, UserCodeError
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.training.importing.user_code import load_function, user_error
from orchestrator.training.inputs.arrays import ArrayBatches, open_arrays
from orchestrator.training.inputs.constant_feeds import constant_feeds
from orchestrator.training.inputs.rank_share import Share


@dataclass(frozen=True)
class FeedContext:
    """What an input function is told.

    Attributes:
        rank, world_size: this rank's place in the group.
        step: the first global step to serve.
        position: batches that the whole group consumed before that step.
    """

    rank: int
    world_size: int
    step: int
    position: int


Batch = Mapping[str, Any]


class Pulls(Protocol):
    """Who pulls from the graph's own queues and iterators: the Trainer."""

    def place_inputs(self, share: Share) -> None:
        """From now on ``pull`` gives this share of the batches."""

    def pull(self) -> dict[str, np.ndarray]:
        """One batch; raises EndOfData."""


class BatchStream:
    """This rank's batches in one generation.

    Args:
        constants: fed in every step.
        sources: each gives its part of every batch; the first that ends is the end of data.
    """

    def __init__(self, constants: Batch, sources: Sequence[Iterator[Batch]]) -> None:
        self._constants = dict(constants)
        self._sources = list(sources)
        self._held: list[dict[str, Any]] = []

    def current(self) -> dict[str, Any]:
        """The next batch; the same one until ``applied``. Raises what ``take`` raises."""
        return self.take(1)[0]

    def take(self, count: int) -> list[dict[str, Any]]:
        """This rank's batches of the next step; the same ones until ``applied``.

        Raises:
            EndOfData: this rank has no further batch.
            UserCodeError: the input function raised or gave something that isn't a mapping.
        """
        while len(self._held) < count:
            batch: dict[str, Any] = dict(self._constants)
            for source in self._sources:
                batch.update(self._next(source))
            self._held.append(batch)
        return self._held[:count]

    def applied(self) -> None:
        """The step that used these batches is done."""
        self._held = []

    def close(self) -> None:
        """End the input function's iterator."""
        for source in self._sources:
            end: Callable[[], None] | None = getattr(source, "close", None)
            if end is not None:
                end()
        self._sources = []

    @staticmethod
    def _next(source: Iterator[Batch]) -> Batch:
        try:
            batch = next(source)
        except StopIteration:
            raise EndOfData("the input has no further batch for this rank") from None
        except OrchestratorError:
            raise
        # sys.exit() too: it would end the worker's thread without a word
        except BaseException as error:
            raise user_error(error, "the input function raised") from error
        if not isinstance(batch, Mapping):
            raise UserCodeError(
                f"the input function gave a {type(batch).__name__} where a mapping from tensor name to array belongs",
                remedy="Yield dictionaries such as {'x:0': array}",
            )
        return batch


def open_batches(
    config: RunConfig,
    graph: WorkerGraph,
    context: FeedContext,
    trainer: Pulls | None = None,
    *,
    once: bool = False,
) -> BatchStream:
    """This rank's batches from ``context.step`` on, from everything that the configuration names.

    Args:
        config: ``input``, ``feed``, ``array``, ``batch_size``, ``shuffle``, ``seed``.
        graph: the inputs that it has.
        context: this rank's place in the group and in the input.
        trainer: needed where the graph makes batches itself.
        once: arrays are gone through once, in their order; the last batch may have fewer rows.

    Raises:
        UserCodeError: the input function can't be loaded or raised when it was called.
        ConfigError: a feed or an array doesn't fit the graph.
        SourceError: an array can't be read.
    """
    sources: list[Iterator[Batch]] = []
    if config.array:
        arrays = open_arrays(config.array, graph, batch_size=config.batch_size)
        seed = config.seed if config.shuffle and not once else None
        sources.append(iter(ArrayBatches(arrays, context, seed=seed, once=once)))
    if config.input:
        sources.append(_from_function(config.input, context))
    ports = [port for port in graph.inputs if port.pull is not None]
    if ports and trainer is not None:
        trainer.place_inputs(Share(context.rank, context.world_size, context.position))
        sources.append(_pulled(ports, trainer, {*config.feed, *config.array}))
    return BatchStream(constant_feeds(config.feed, graph), sources)


def _from_function(reference: str, context: FeedContext) -> Iterator[Batch]:
    function = load_function(reference)
    try:
        return iter(function(context))
    except OrchestratorError:
        raise
    except BaseException as error:
        raise user_error(
            error, f"the input function {reference} raised when it was called"
        ) from error


def _pulled(ports: Sequence[InputPort], trainer: Pulls, supplied: set[str]) -> Iterator[Batch]:
    while True:
        batch = trainer.pull()
        yield {port.name: batch[port.name] for port in ports if port.name not in supplied}
