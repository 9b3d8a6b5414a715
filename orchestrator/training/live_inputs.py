"""Where do batches come from that the graph makes itself, in queues or iterators?

Rule: the graph's own pipeline runs in a session of its own that lives as long as the worker, whatever happens to the groups: what is
pulled from it is held on the host and fed, so a step that fails takes nothing out of a queue or an iterator.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np

from orchestrator.errors import EndOfData
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training import failures
from orchestrator.training.engine import tf
from orchestrator.training.options import GroupSpec, TrainingOptions
from orchestrator.training.sessions import LiveSession


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

    def pull(self) -> dict[str, np.ndarray]:
        """One batch, by input name; see ``Trainer.pull``."""
        if not self._pulled:
            return {}
        try:
            if self._session is None:
                self._start()
            values = self._live().run(list(self._pulled.values()))
        except tf.errors.OutOfRangeError as error:
            if self._failure is not None:
                raise failures.user_error(self._failure, "the graph's input pipeline failed") from self._failure
            raise EndOfData("the graph's input pipeline is exhausted") from error
        except tf.errors.OpError as error:
            raise failures.user_error(error, "the graph's input pipeline failed") from error
        return dict(zip(self._pulled, values, strict=True))

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
        self._session = LiveSession(self._imported, self._options, GroupSpec(generation=0, rank=0, world_size=1), None)
        graph = self._graph
        for stage in (graph.table_initializers, graph.local_initializers, graph.pipeline_initializers):
            if stage:
                self._session.run([self._operation(name) for name in stage])
        self._threads = [
            threading.Thread(target=self._fill, args=(enqueue, close), name=f"tfresume-queue-{queue}", daemon=True)
            for queue, enqueues, close, _ in graph.queue_runners
            for enqueue in enqueues
        ]
        self._filling = {id(runner): len(runner[1]) for runner in graph.queue_runners}
        for thread in self._threads:
            thread.start()

    def _fill(self, enqueue: str, close: str) -> None:
        """One queue runner's thread, as ``tf.train.QueueRunner`` runs it: enqueue until its own input ends, then close."""
        session = self._live()
        run = session.callable([enqueue], [], [])
        try:
            while not self._stopping.is_set():
                run()
        except tf.errors.OutOfRangeError:
            pass  # the end of its input
        except (tf.errors.OpError, RuntimeError) as error:
            if not self._stopping.is_set():
                self._failure = error
        if not self._stopping.is_set():
            with contextlib.suppress(tf.errors.OpError):
                session.run(self._operation(close))

    def _operation(self, name: str) -> Any:
        return self._imported.get_operation_by_name(name)

    def _live(self) -> LiveSession:
        if self._session is None:
            raise RuntimeError("the pipeline isn't running")
        return self._session
