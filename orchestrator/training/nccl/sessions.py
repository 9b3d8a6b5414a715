"""Where does the graph run while TensorFlow itself exchanges, and how does this process join and
leave a group?

Rule: every generation gets a new session, since a server that saw an aborted collective never runs
one again. With one member it's a plain in-process session; with more a server of this process's
own, reached without leaving the process.

Sessions isolate their state: closing one then frees its variables (measured: 240 MB in 1 ms, flat
over six generations). Without isolation they outlive it until ``Session.reset``, which goes over
the network and so fails for a worker that has left its group. What a server itself costs, 40 MB and
94 threads, stays until the process ends. Its port takes whatever graph is sent to it, from anybody
who reaches it: a firewall has to stand before it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import AddressTaken
from orchestrator.training.engine.gpu import devices_are_final
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.engine.session_config import session_config
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import tf
from orchestrator.training.nccl.addresses import Reservation, cut_connections

BIND_WITHIN_S = 2.0
"""A port that was just let go is free again within milliseconds; one that another process took
stays taken.
"""
BIND_PAUSE_S = 0.05
"""Between two tries to bind: some dozens of them fit into ``BIND_WITHIN_S``."""
SPOIL_WITHIN_S = 0.25
"""The request reaches the leader within milliseconds; where the leader is gone no answer comes, and
a recovery waits meanwhile.
"""
LOOK_EVERY_S = 0.02
"""How often a step looks whether its group was left: a twentieth of what a person notices, and no
load.
"""
JOB = "worker"


class GroupSession(LiveSession):
    """One generation's session.

    Attributes:
        group: the membership that it was formed for.
    """

    def __init__(
        self,
        graph: Any,
        options: TrainingOptions,
        group: GroupSpec,
        reservation: Reservation | None,
    ) -> None:
        self.group = group
        self._server: Any = None
        self._deserted = False
        config = session_config(options)
        devices_are_final()
        if group.world_size > 1:
            config.isolate_session_state = True  # closing the session frees its variables
            # nothing but the collectives crosses processes
            config.device_filters.append(f"/job:{JOB}/task:{group.rank}")
            config.experimental.collective_group_leader = f"/job:{JOB}/replica:0/task:0"
            config.experimental.collective_nccl = True
            self._server = _serve(group, config, reservation)
        super().__init__(
            graph, options, target=self._server.target if self._server else "", config=config
        )

    @property
    def shared(self) -> bool:
        """Whether other processes take part."""
        return self._server is not None

    def meet(
        self, probe: str, feeds: Mapping[str, Any], left: threading.Event, within_s: float
    ) -> None:
        """Wait until every rank of the group is here, or until ``left`` is set.

        The wait happens on a thread of its own that is left alone if need be: a rank that looks for
        a dead leader can't be told to stop, and the probe changes nothing.

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
        """Join the group with a wrong size, so that members that wait for it to be complete, now or
        later, get an error.

        Returns after ``SPOIL_WITHIN_S`` at the latest: a rank that waits for the group itself can't
        ask twice.
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

        A group that hasn't met keeps the door open: who comes later must be told that it was
        spoilt, not be left knocking.
        """
        if self.shared:
            own = self.group.addresses[self.group.rank]
            cut_connections(own, frozenset(self.group.addresses) - {own}, listener=met)

    def close(self) -> None:
        """Free the variables and all else that the session holds. Where a run hangs in it, freeing
        waits for that run's end.
        """
        if self._deserted:
            threading.Thread(target=super().close, name="tfresume-close", daemon=True).start()
        else:
            super().close()


def _serve(group: GroupSpec, config: Any, reservation: Reservation | None) -> Any:
    if reservation is not None:
        reservation.release()
    cluster = tf.train.ClusterSpec({JOB: list(group.addresses)})
    deadline = time.monotonic() + BIND_WITHIN_S
    while True:
        try:
            return tf.distribute.Server(cluster, job_name=JOB, task_index=group.rank, config=config)
        # "Could not start gRPC server": somebody took the port in between
        except tf.errors.UnknownError as error:
            if time.monotonic() >= deadline:
                raise AddressTaken(
                    f"rank {group.rank} can't serve on {group.addresses[group.rank]}: the port was taken by another process",
                    remedy="Reserve a new address and form the group again",
                ) from error
            time.sleep(BIND_PAUSE_S)
