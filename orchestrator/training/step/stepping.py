"""What exactly does one run of a train operation feed and fetch?

Rule: what the user supplies is checked against the graph before TensorFlow sees it, and everything
is resolved once per session. A run is a single prepared call, which costs less than
``session.run``; only one with a deadline isn't.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.errors import UserCodeError
from orchestrator.graph.worker_graph import InputPort, Shape, WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.sessions import LiveSession
from orchestrator.training.engine.tensorflow import tf


@dataclass(frozen=True)
class Shown:
    """What a run fetches besides its operation: tensor names, and under which names they are shown."""

    watched: tuple[str, ...]
    summaries: tuple[tuple[str, str], ...]


class StepRunner:
    """The train operations of one imported graph, ready to run in any session.

    Args:
        graph: the worker's view of the graph.
        imported: the imported TensorFlow graph.
        options: which tensors to watch besides the losses.
    """

    def __init__(self, graph: WorkerGraph, imported: Any, options: TrainingOptions) -> None:
        self._targets = graph.targets
        self._ports = {key: port for port in graph.inputs for key in (port.name, port.tensor)}
        self._needed = {port.tensor: port.name for port in graph.inputs if not port.optional}
        self._imported = imported
        watched = tuple(dict.fromkeys((*graph.losses, *options.watch)))
        self._shown = [
            _shown_by(number, graph, imported, watched) for number in range(len(graph.targets))
        ]

    def checked(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The user's batch by tensor of the rewritten graph.

        Raises:
            UserCodeError: a key the graph has no input for, a missing input, or a value of another
                shape or type.
        """
        batch: dict[str, np.ndarray] = {}
        for key, value in feeds.items():
            port = self._ports.get(key) or self._inner(key)
            batch[port.tensor] = _converted(port, value)
        lacking = sorted(name for tensor, name in self._needed.items() if tensor not in batch)
        if lacking:
            raise _bad_feed(f"the batch lacks {', '.join(lacking)}", sorted(feeds))
        # one order, so that prepared calls fit however the user's code puts them
        return dict(sorted(batch.items()))

    def _inner(self, key: str) -> InputPort:
        """A tensor inside the graph that a constant replaces, such as a learning rate that isn't a
        placeholder.
        """
        try:
            tensor = self._imported.get_tensor_by_name(key)
        except (KeyError, ValueError):
            raise _bad_feed(
                f"the graph has no input {key}",
                sorted({port.name for port in self._ports.values()}),
            ) from None
        shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
        port = InputPort(
            key,
            key,
            tensor.dtype.base_dtype.name,
            shape,
            optional=True,
            targets=tuple(range(len(self._targets))),
        )
        self._ports[key] = port
        return port

    @property
    def shown(self) -> Sequence[Shown]:
        """What each target shows besides."""
        return self._shown

    def fed(self, target: int, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Those of ``feeds`` that a target takes; what isn't an input (the keys of random numbers)
        goes to all.
        """
        return {
            name: value
            for name, value in feeds.items()
            if name not in self._ports or target in self._ports[name].targets
        }

    def run(
        self,
        session: LiveSession,
        target: int,
        feeds: Mapping[str, np.ndarray],
        *,
        summaries: bool = False,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """One run of a target by a worker alone; what it watched and its summaries."""
        shown = self._shown[target]
        tags = shown.summaries if summaries else ()
        fetches = (*shown.watched, *(tensor for _, tensor in tags))
        # A watched tensor that is fed, such as a learning rate, is what it's fed: a prepared call
        # refuses to fetch it. One that is both watched and a summary's input is fetched once: a
        # prepared call can't tell two of the same name apart
        computed = tuple(dict.fromkeys(name for name in fetches if name not in feeds))
        values = {
            **feeds,
            **dict(zip(computed, self._run(session, target, computed, feeds), strict=True)),
        }
        return {name: number_of(values[name]) for name in shown.watched}, {
            tag: number_of(values[name]) for tag, name in tags
        }

    def _run(
        self,
        session: LiveSession,
        target: int,
        fetches: tuple[str, ...],
        feeds: Mapping[str, np.ndarray],
    ) -> Sequence[Any]:
        call = session.callable((self._targets[target].op,), fetches, tuple(feeds))
        values: Sequence[Any] = call(*feeds.values())
        return values

    def prepare(self, session: LiveSession, target: int, feeds: Sequence[str]) -> None:
        """Make the call of a usual run ahead of the first one."""
        fetches = tuple(
            dict.fromkeys(name for name in self._shown[target].watched if name not in feeds)
        )
        session.callable((self._targets[target].op,), fetches, feeds)


def _shown_by(target: int, graph: WorkerGraph, imported: Any, watched: tuple[str, ...]) -> Shown:
    """With several targets each shows what it computes anyway. What none does, such as a loss of
    which only the gradients are taken, is shown by the last one that is fed all that it needs.
    """
    if len(graph.targets) == 1:
        return Shown(watched, graph.scalar_summaries)
    computed = [_ancestors(imported, each.op) for each in graph.targets]
    ports = {port.tensor: port.targets for port in graph.inputs if not port.optional}
    ports |= {
        lookup.positions: lookup.targets for read in graph.tables.reads for lookup in read.lookups
    }
    takers = {tensor.partition(":")[0]: targets for tensor, targets in ports.items()}

    def mine(tensor: str) -> bool:
        op = tensor.partition(":")[0]
        if any(op in names for names in computed):
            return op in computed[target]
        needed = [takers[name] for name in _ancestors(imported, op) & set(takers)]
        fed = [
            number
            for number in range(len(graph.targets))
            if all(number in targets for targets in needed)
        ]
        return target == (fed or [len(graph.targets) - 1])[-1]

    return Shown(
        tuple(filter(mine, watched)),
        tuple(pair for pair in graph.scalar_summaries if mine(pair[1])),
    )


def _ancestors(imported: Any, op_name: str) -> set[str]:
    stack, seen = [imported.get_operation_by_name(op_name)], {op_name}
    while stack:
        op = stack.pop()
        for before in (*(tensor.op for tensor in op.inputs), *op.control_inputs):
            if before.name not in seen:
                seen.add(before.name)
                stack.append(before)
    return seen


@functools.cache
def _numpy_dtype(dtype: str) -> Any:
    return tf.as_dtype(dtype).as_numpy_dtype


def _converted(port: InputPort, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=_numpy_dtype(port.dtype))
    except (TypeError, ValueError) as error:
        raise _bad_feed(
            f"the value for {port.name} can't become {port.dtype}: {error}", []
        ) from error
    if not _fits(port.shape, array.shape):
        wanted = (
            "[" + ", ".join("any" if size is None else str(size) for size in port.shape or ()) + "]"
        )
        raise _bad_feed(
            f"the value for {port.name} has shape {list(array.shape)}, the graph wants {wanted}", []
        )
    return array


def _fits(wanted: Shape, shape: tuple[int, ...]) -> bool:
    if wanted is None:
        return True
    return len(wanted) == len(shape) and all(
        want is None or want == have for want, have in zip(wanted, shape, strict=True)
    )


def number_of(value: Any) -> float:
    """What is shown of a fetched value: itself, or its mean where it isn't a scalar."""
    return float(value) if np.ndim(value) == 0 else float(np.mean(value))


def _bad_feed(message: str, known: list[str]) -> UserCodeError:
    listed = (
        f" ({'it has ' if 'no input' in message else 'got '}{', '.join(known)})" if known else ""
    )
    return UserCodeError(
        message + listed,
        remedy="Correct the input function or --feed; `tfresume inspect` lists all inputs",
    )
