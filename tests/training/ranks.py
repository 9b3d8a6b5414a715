"""How do tests train on several ranks without Ray? One child process per rank, driven over a
socket.

Rule: a rank holds one Trainer and does what it's told, one call at a time; calls to several ranks
overlap, since a step ends only when all ranks take it. The batches of a step are dealt as a real
run deals them. ``abandon`` and the like go over a second connection, as a control thread would call
them.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from orchestrator.errors import PeerLost
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.training.engine.options import GroupSpec, TrainingOptions
from orchestrator.training.state.state import State
from orchestrator.training.step.dealing import Dealing
from tests import forked

CALL_WITHIN_S = 120.0
SECRET = bytes(range(32))


def worker_graph(
    prefix: Path, *, workers: int = 3, batches: str | None = "tests:none", **config: Any
) -> WorkerGraph:
    """What the planner makes of a checkpoint's graph; inputs come from the test, or from the graph
    itself where ``batches`` is None.
    """
    # A rank, whose process imports this module, needs neither: half of what it would import
    from orchestrator.config import RunConfig
    from orchestrator.graph.graphdef.meta import read_meta
    from orchestrator.graph.plan import plan

    meta = read_meta(Path(f"{prefix}.meta").read_bytes(), name=str(prefix))
    planned = plan(meta, RunConfig(source=str(prefix), workers=workers, input=batches, **config))
    if planned.worker_graph is None:
        raise AssertionError([problem.message for problem in planned.errors])
    return planned.worker_graph


class RankProcess:
    """A child process that holds one Trainer."""

    def __init__(self, *, gpu: bool = False) -> None:
        directory = tempfile.mkdtemp(prefix="rank-")
        listener = Listener(f"{directory}/socket", "AF_UNIX")
        self.log = Path(directory, "log")
        # One that uses a GPU imports TensorFlow itself: what others are forked from has all GPUs
        # hidden
        begin = forked.spawn if gpu else forked.fork
        self.process = begin(_serve, f"{directory}/socket", str(self.log))
        self._connection: Connection = listener.accept()
        self._control: Connection = listener.accept()
        listener.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        assert self.process.pid is not None
        return self.process.pid

    def send(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Begin a call on the trainer's thread."""
        self._connection.send((method, args, kwargs))

    def receive(self, within_s: float = CALL_WITHIN_S) -> Any:
        """The result of the call begun last; raises what it raised."""
        return _result(self._connection, within_s)

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """``send`` and ``receive``."""
        self.send(method, *args, **kwargs)
        return self.receive()

    def control(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A call on another thread, while the trainer's may be busy."""
        self._control.send((method, args, kwargs))
        return _result(self._control, CALL_WITHIN_S)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; a killed process is gone on return."""
        os.kill(self.pid, number)
        if number == signal.SIGKILL:
            self.process.join()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self._connection.close()
        self._control.close()

    @property
    def alive(self) -> bool:
        """Whether the process can still be used."""
        return self.process.is_alive()


def _result(connection: Connection, within_s: float) -> Any:
    if not connection.poll(within_s):
        raise TimeoutError(f"no answer from the rank within {within_s} s")
    ok, value = connection.recv()
    if ok:
        return value
    raise value


class Ranks:
    """A group of rank processes, formed and re-formed by the test.

    ``slots`` are the batches that a step takes.
    """

    def __init__(self, processes: list[RankProcess]) -> None:
        self.processes = processes
        self.everyone = list(processes)
        self.generation = 0
        self.slots = len(processes)
        self.position = 0
        self._dealing = Dealing(len(processes), self.slots)

    def load(self, graph: WorkerGraph, options: TrainingOptions) -> None:
        """Give every rank a new Trainer."""
        self.slots = options.batches_per_step * graph.batches_per_slot
        self.each("create", graph, options, SECRET)

    def form(
        self, members: Sequence[RankProcess] | None = None, *, position: int | None = None
    ) -> None:
        """A new generation of the members, in this order of ranks, at a position in the input;
        where they stand by default.
        """
        self.processes = list(self.processes if members is None else members)
        self.position = self.position if position is None else position
        self.generation += 1
        self._dealing = Dealing(len(self.processes), self.slots, self.position)
        addresses = tuple(process.call("address") for process in self.processes)
        for rank, process in enumerate(self.processes):
            process.send(
                "join",
                GroupSpec(self.generation, rank, len(self.processes), addresses, self.position),
            )
        for process in self.processes:
            process.receive()

    def start(
        self, prefix: Path, *, options: TrainingOptions | None = None, **config: Any
    ) -> State:
        """Load the graph of a checkpoint on every rank, form the group, and give it the
        checkpoint's state.

        By default a step has a batch for each rank.
        """
        self.load(
            worker_graph(prefix, **config),
            options or TrainingOptions(batches_per_step=len(self.processes)),
        )
        state: State = self.processes[0].call("load_checkpoint", str(prefix))
        self.form(position=0)
        self.assign(state)
        return state

    def assign(self, state: State) -> None:
        """Give every rank the same state."""
        self.each("assign", state)

    def each(self, method: str, *args: Any, **kwargs: Any) -> list[Any]:
        """The same call on all ranks at once."""
        for process in self.processes:
            process.send(method, *args, **kwargs)
        return [process.receive() for process in self.processes]

    def step(self, batches: Sequence[Mapping[str, Any]]) -> list[Any]:
        """One step with these batches, one for each slot; errors are raised after all ranks have
        answered.
        """
        outcomes = self.outcomes(batches)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    def outcomes(self, batches: Sequence[Mapping[str, Any]]) -> list[Any]:
        """One step; each rank's output or error."""
        for process, own in zip(self.processes, self.dealt(batches), strict=True):
            process.send("step", own)
        outcomes = [outcome_of(process.receive) for process in self.processes]
        if not any(isinstance(outcome, BaseException) for outcome in outcomes):
            self.position += self.slots
        return outcomes

    def dealt(self, batches: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
        """By rank, its batches of a step that has these in its slots."""
        assert len(batches) == self.slots, (len(batches), self.slots)
        return [
            [
                batches[number - self.position]
                for number in self._dealing.batches(rank, self.position)
            ]
            for rank in range(len(self.processes))
        ]

    def states(self) -> list[State]:
        """Every rank's state."""
        return self.each("state")


def outcome_of(call: Callable[[], Any]) -> Any:
    """What a call returned or raised."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  (the test looks at it)
        return error


def cut_off_once(trainer: Any, number: int) -> None:
    """The connection breaks in the exchange ``number`` from now, when the peers have the result and
    this rank doesn't.
    """
    real, left = trainer._group._exchange, [number]

    def exchange(*args: Any) -> Any:
        found = real(*args)
        left[0] -= 1
        if left[0] < 0:
            trainer._group._exchange = real
            raise PeerLost("cut off")
        return found

    trainer._group._exchange = exchange


class RankPool:
    """Rank processes that outlive a test, since importing TensorFlow takes seconds."""

    def __init__(self) -> None:
        self._idle: list[RankProcess] = []

    def take(self, count: int) -> list[RankProcess]:
        """That many processes, new ones where the pool has none."""
        self._idle = [process for process in self._idle if process.alive]
        while len(self._idle) < count:
            self._idle.append(RankProcess())
        taken, self._idle = self._idle[:count], self._idle[count:]
        return taken

    def give_back(self, processes: Sequence[RankProcess], *, reusable: bool) -> None:
        """Keep the healthy ones for the next test."""
        for process in processes:
            if reusable and process.alive:
                self._idle.append(process)
            else:
                process.close()

    def close(self) -> None:
        """End all of them."""
        for process in self._idle:
            process.close()


def _serve(address: str, log: str) -> None:
    os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    # A process's first session settles how many threads split a convolution's sums. Processes
    # outlive their tests, and those of one group have to have settled on the same number, whatever
    # they trained before
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    trainer: dict[str, Any] = {}
    main, control = Client(address, "AF_UNIX"), Client(address, "AF_UNIX")
    faulthandler.enable()
    thread = threading.Thread(target=_answer, args=(control, trainer), daemon=True)
    thread.start()
    _answer(main, trainer)


def _answer(connection: Connection, holder: dict[str, Any]) -> None:
    while True:
        try:
            method, args, kwargs = connection.recv()
        except EOFError:
            os._exit(0)
        try:
            connection.send((True, _perform(holder, method, args, kwargs)))
        except Exception as error:  # noqa: BLE001  (it travels to the test)
            connection.send((False, error))


def _perform(
    holder: dict[str, Any], method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    from orchestrator.training.trainer import Trainer

    if method == "create":
        if "trainer" in holder:
            holder["trainer"].close()
        holder["trainer"] = Trainer(*args)
        return None
    if method == "function":  # of the test, without a trainer
        function, *rest = args
        return function(*rest, **kwargs)
    if method == "apply":  # a function of the test, given the trainer
        function, *rest = args
        return function(holder["trainer"], *rest, **kwargs)
    if method == "timed_step":
        started = time.monotonic()
        outcome = outcome_of(lambda: holder["trainer"].step(*args, **kwargs))
        return outcome, time.monotonic() - started
    value = getattr(holder["trainer"], method)
    return value(*args, **kwargs) if callable(value) else value
