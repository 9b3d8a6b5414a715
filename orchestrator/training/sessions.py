"""Where does the graph run, and how does this process join and leave a group?

Rule: every generation gets a new session, since a server that saw an aborted collective never runs one again. With one member it's a
plain in-process session; with more a server of this process's own, reached without leaving the process.

Sessions isolate their state: closing one then frees its variables (measured: 240 MB in 1 ms, flat over six generations). Without
isolation they outlive it until ``Session.reset``, which goes over the network and so fails for a worker that has left its group. What
a server itself costs, 40 MB and 94 threads, stays until the process ends.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import AddressTaken
from orchestrator.training.addresses import Reservation, cut_connections
from orchestrator.training.engine import tf, v1
from orchestrator.training.gpu import devices_are_final
from orchestrator.training.options import GroupSpec, TrainingOptions
from orchestrator.training.placement import JOB, session_config

BIND_WITHIN_S = 2.0
BIND_PAUSE_S = 0.05
SPOIL_WITHIN_S = 0.25
LOOK_EVERY_S = 0.02
NODE_IN_TEXT = re.compile(r"\[\[\{\{node (\S+?)\}\}")


class LiveSession:
    """One generation's session.

    Attributes:
        group: the membership that it was formed for.
        session: TensorFlow's session; its variables aren't set until the caller assigns them.
    """

    def __init__(self, graph: Any, options: TrainingOptions, group: GroupSpec, reservation: Reservation | None) -> None:
        self.group = group
        self._server: Any = None
        self._deserted = False
        config = session_config(options, group)
        devices_are_final()
        if group.world_size > 1:
            self._server = _serve(group, config, reservation)
        self.session: Any = v1.Session(self._server.target if self._server else "", graph=graph, config=config)

    @property
    def shared(self) -> bool:
        """Whether other processes take part."""
        return self._server is not None

    def run(self, fetches: Any, feeds: Mapping[Any, Any] | None = None, *, timeout_s: float | None = None) -> Any:
        """``session.run``; with ``timeout_s`` it ends with ``DeadlineExceededError`` after so many seconds."""
        if timeout_s is None:
            return self.session.run(fetches, feeds)
        return self.session.run(fetches, feeds, options=v1.RunOptions(timeout_in_ms=max(1, round(timeout_s * 1000))))

    def callable(self, targets: Sequence[str], fetches: Sequence[str], feeds: Sequence[str]) -> Any:
        """A prepared run without ``session.run``'s cost per call; positional feeds in the order given.

        Measured with six feeds: 0.14 instead of 0.80 ms, through a server 0.48 instead of 1.6 ms (a busy machine).
        """
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.CallableOptions(target=list(targets), fetch=list(fetches), feed=list(feeds))
        prepared = self.session._make_callable_from_options(options)

        def call(*values: Any) -> Any:
            try:
                return prepared(*values)
            except tf.errors.OpError as error:
                raise located(error, self.session.graph) from None

        return call

    def meet(self, probe: str, feeds: Mapping[str, Any], left: threading.Event, within_s: float) -> None:
        """Wait until every rank of the group is here, or until ``left`` is set.

        The wait happens on a thread of its own that is left alone if need be: a rank that looks for a dead leader can't be told to
        stop, and the probe changes nothing.

        Raises:
            tf.errors.OpError: a peer has left, or wasn't there in time.
        """
        outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def wait() -> None:
            try:
                self.run(self.session.graph.get_operation_by_name(probe), feeds, timeout_s=within_s)
            except (tf.errors.OpError, RuntimeError) as error:
                outcome.put(error)
            else:
                outcome.put(None)

        thread = threading.Thread(target=wait, name="tfresume-meet", daemon=True)
        thread.start()
        while not left.is_set():
            with contextlib.suppress(queue.Empty):
                error = outcome.get(timeout=LOOK_EVERY_S)
                if error is not None:
                    raise error
                return
        self._deserted = True

    def spoil(self, probe: str, feeds: Mapping[str, Any]) -> None:
        """Join the group with a wrong size, so that members that wait for it to be complete, now or later, get an error.

        Returns after ``SPOIL_WITHIN_S`` at the latest: a rank that waits for the group itself can't ask twice.
        """

        def join() -> None:
            with contextlib.suppress(tf.errors.OpError, RuntimeError):  # the error is the purpose
                self.run(self.session.graph.get_operation_by_name(probe), feeds, timeout_s=1.0)

        if probe:
            thread = threading.Thread(target=join, name="tfresume-spoil", daemon=True)
            thread.start()
            thread.join(SPOIL_WITHIN_S)

    def leave(self, *, met: bool) -> None:
        """Cut the connections with the group; see ``cut_connections``.

        A group that hasn't met keeps the door open: who comes later must be told that it was spoilt, not be left knocking.
        """
        if self.shared:
            own = self.group.addresses[self.group.rank]
            cut_connections(own, frozenset(self.group.addresses) - {own}, listener=met)

    def close(self) -> None:
        """Free the variables and all else that the session holds. Where a run hangs in it, freeing waits for that run's end."""
        if self._deserted:
            threading.Thread(target=self._close, name="tfresume-close", daemon=True).start()
        else:
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(tf.errors.OpError):  # freed all the same
            self.session.close()


def _serve(group: GroupSpec, config: Any, reservation: Reservation | None) -> Any:
    if reservation is not None:
        reservation.release()
    cluster = tf.train.ClusterSpec({JOB: list(group.addresses)})
    deadline = time.monotonic() + BIND_WITHIN_S
    while True:
        try:
            return tf.distribute.Server(cluster, job_name=JOB, task_index=group.rank, config=config)
        except tf.errors.UnknownError as error:  # "Could not start gRPC server": somebody took the port in between
            if time.monotonic() >= deadline:
                raise AddressTaken(
                    f"rank {group.rank} can't serve on {group.addresses[group.rank]}: the port was taken by another process",
                    remedy="Reserve a new address and form the group again",
                ) from error
            time.sleep(BIND_PAUSE_S)


def located(error: Any, graph: Any) -> Any:
    """The error with the operation that its text names, as ``session.run`` raises it; a prepared run leaves it out."""
    named = NODE_IN_TEXT.search(error.message)
    if named is None or type(error) is tf.errors.OpError:
        return error
    try:
        op = graph.get_operation_by_name(named.group(1))
    except (KeyError, ValueError):
        return error
    return type(error)(op.node_def, op, error.message)
