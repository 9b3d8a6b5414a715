"""Where do batches come from that the graph makes itself, in queues or iterators?

Rule: the graph's own pipeline runs in a session of its own, whatever happens to the groups: what is
pulled from it is held on the host and fed, so a step that fails takes nothing out of a queue or an
iterator. It starts at this rank's share of the batches, and starts anew only where it isn't already
there.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.errors import EndOfData
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine import failures
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.inputs.rank_share import Share, start_feeds, turns


class LiveInputs:
    """The pipeline of one imported graph; started at the first pull.

    Args:
        graph: its queue runners, iterators, tables and pulled inputs.
        imported: the imported TensorFlow graph.
        options: devices and threads.
    """

    def __init__(self, graph: WorkerGraph, imported: Any, options: TrainingOptions) -> None:
        self._graph = graph
        self._imported = imported
        self._options = options
        self._pulled = {port.name: port.pull for port in graph.inputs if port.pull is not None}
        self._session: LiveSession | None = None
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._share = Share()
        self._served = 0
        self._shared_rows = {queue.enqueue: queue for queue in graph.queues if queue.unit == "rows"}
        self._shared_batches = [queue for queue in graph.queues if queue.unit == "batches"]
        self._passed: dict[str, int] = {}
        self._filling: Counter[str] = Counter()
        self._counting = threading.Lock()

    def place(self, share: Share) -> None:
        """From now on ``pull`` gives this share's batches, the first one at its position."""
        reached = replace(
            self._share, position=self._share.position + self._served * self._share.world_size
        )
        if self._session is not None and share != reached:
            self.close()
        self._share, self._served = share, 0

    def pull(self) -> dict[str, np.ndarray]:
        """One batch, by input name; see ``Trainer.pull``."""
        if not self._pulled:
            return {}
        try:
            if self._session is None:
                self._start()
            self._pass_others()
            values = self._live().run(list(self._pulled.values()))
        except tf.errors.OutOfRangeError as error:
            if self._failure is not None:
                raise failures.user_error(
                    self._failure, "the graph's input pipeline failed"
                ) from self._failure
            raise EndOfData("the graph's input pipeline is exhausted") from error
        except tf.errors.OpError as error:
            raise failures.user_error(error, "the graph's input pipeline failed") from error
        self._served += 1
        return dict(zip(self._pulled, values, strict=True))

    def _pass_others(self) -> None:
        """Drop the batches of queues that are other ranks' until it's this one's turn."""
        for queue in self._shared_batches:
            turn = turns(queue, self._share)
            while not turn.mine(self._passed.get(queue.name, 0)):
                self._live().run([self._operation(taker) for taker in queue.takers])
                self._passed[queue.name] = self._passed.get(queue.name, 0) + 1
            self._passed[queue.name] = self._passed.get(queue.name, 0) + 1

    def close(self) -> None:
        """Stop the queue runners and free the pipeline."""
        session, self._session = self._session, None
        if session is None:
            return
        self._stopping.set()
        for _, _, _, cancel in self._graph.queue_runners:
            with contextlib.suppress(tf.errors.OpError):  # closed already, at the end of its input
                session.run(self._operation(cancel))
        for thread in self._threads:
            thread.join(timeout=10)
        session.close()

    def _start(self) -> None:
        self._session = LiveSession(self._imported, self._options)
        self._stopping, self._failure, self._passed = threading.Event(), None, {}
        graph = self._graph
        starters = tuple(pipeline.starter for pipeline in graph.pipelines)
        for stage in (
            graph.table_initializers,
            graph.local_initializers,
            (*graph.pipeline_initializers, *starters),
        ):
            if stage:
                self._session.run(
                    [self._operation(name) for name in stage],
                    start_feeds(graph.pipelines, self._share),
                )
        alone = self._ordered_queues()
        runners = [
            (queue, tuple(dict.fromkeys(enqueues)) if queue in alone else enqueues, close)
            for queue, enqueues, close, _ in graph.queue_runners
        ]
        self._filling = Counter(queue for queue, enqueues, _ in runners for _ in enqueues)
        self._threads = [
            threading.Thread(
                target=self._fill,
                args=(queue, enqueue, close),
                name=f"tfresume-queue-{queue}",
                daemon=True,
            )
            for queue, enqueues, close in runners
            for enqueue in enqueues
        ]
        for thread in self._threads:
            thread.start()

    def _ordered_queues(self) -> set[str]:
        """Queues that one thread fills alone: with more, nobody could tell whose turn a row is."""
        return {queue.name for queue in self._graph.queues if queue.unit == "rows" or queue.promise}

    def _fill(self, queue: str, enqueue: str, close: str) -> None:
        """One queue runner's thread, as ``tf.train.QueueRunner`` runs it: enqueue until its input
        ends; the last one closes.
        """
        session, stopping = self._live(), self._stopping
        runs = self._runs(session, enqueue)
        try:
            while not stopping.is_set():
                next(runs)()
        except tf.errors.OutOfRangeError:
            pass  # the end of its input
        except (tf.errors.OpError, RuntimeError) as error:
            if not stopping.is_set():
                self._failure = error
        with self._counting:
            self._filling[queue] -= 1
            last = not self._filling[queue]
        if last and not stopping.is_set():
            with contextlib.suppress(tf.errors.OpError):
                session.run(self._operation(close))

    def _runs(self, session: LiveSession, enqueue: str) -> Iterator[Callable[[], Any]]:
        """What a queue runner's thread does, one run after another: put a row into the queue, or
        read another rank's row and drop it.
        """
        keep = session.callable([enqueue], [], [])
        queue = self._shared_rows.get(enqueue)
        if queue is None:
            yield from itertools.repeat(keep)
            return
        drop = session.callable([queue.read], [], [])
        turn = turns(queue, self._share)
        for number in itertools.count():
            yield keep if turn.mine(number) else drop

    def _operation(self, name: str) -> Any:
        return self._imported.get_operation_by_name(name)

    def _live(self) -> LiveSession:
        if self._session is None:
            raise RuntimeError("the pipeline isn't running")
        return self._session
