"""Does the state fit into the workers' memory?

Rule: counted in copies of the state, which is what can be known without running the graph:
activations and workspace come on top, so what doesn't fit by this count never fits. A worker holds
the live variables, one host copy between steps and one more while a save is being written, and the
gradients of what it trains. Rows of a divided table it holds once: they're saved from where they lie
where a copy has no room, and their gradients come by row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod

from orchestrator.graph.graphdef.tensors import element_bytes
from orchestrator.graph.problem import Problem
from orchestrator.graph.worker_graph import Variable

HOST_COPIES_ON_CPU = 3
"""Live variables, the copy between steps, the copy being written."""
HOST_COPIES_ON_GPU = 2
"""The same without the live variables, which are on the GPU."""


@dataclass(frozen=True)
class FreeMemory:
    """What there is, in bytes.

    Attributes:
        host_bytes: free memory of the node with the least.
        workers_per_node: workers that share it.
        gpu_bytes: free memory of the GPU with the least; None without GPUs.
    """

    host_bytes: int
    workers_per_node: int = 1
    gpu_bytes: int | None = None


@dataclass(frozen=True)
class MemoryNeed:
    """What one worker needs at least, in bytes."""

    state_bytes: int
    gradient_bytes: int
    host_bytes: int
    gpu_bytes: int


def variable_bytes(variable: Variable) -> int | None:
    """Bytes of a variable's value, None where its shape isn't known."""
    if variable.shape is None or any(size is None for size in variable.shape):
        return None
    return prod(size or 0 for size in variable.shape) * element_bytes(variable.dtype)


def memory_need(
    variables: Iterable[Variable], *, gpu: bool, rows: Collection[str] = ()
) -> MemoryNeed:
    """What one worker needs for ``variables``; those without a known shape count nothing.

    Args:
        rows: names of those that are its rows of divided tables.
    """
    every = list(variables)
    state = sum(variable_bytes(variable) or 0 for variable in every)
    once = sum(variable_bytes(variable) or 0 for variable in every if variable.name in rows)
    gradients = sum(
        variable_bytes(variable) or 0
        for variable in every
        if variable.trainable and variable.needed and variable.name not in rows
    )
    if gpu:
        return MemoryNeed(state, gradients, state * HOST_COPIES_ON_GPU, state + gradients)
    host = (state - once) * HOST_COPIES_ON_CPU + once + gradients
    return MemoryNeed(state, gradients, host, 0)


def memory_problems(need: MemoryNeed, free: FreeMemory) -> tuple[Problem, ...]:
    """Refusals where the state can't fit."""
    found: list[Problem] = []
    together = need.host_bytes * free.workers_per_node
    if together > free.host_bytes:
        found.append(
            Problem(
                "too-little-memory",
                "error",
                f"{free.workers_per_node} workers on a node need at least {in_words(together)} of memory for a state of "
                f"{in_words(need.state_bytes)}; {in_words(free.host_bytes)} are free",
                "Use fewer workers a node, or larger nodes",
                forceable=True,
            )
        )
    if free.gpu_bytes is not None and need.gpu_bytes > free.gpu_bytes:
        found.append(
            Problem(
                "too-little-gpu-memory",
                "error",
                f"state and gradients need at least {in_words(need.gpu_bytes)} of GPU memory; {in_words(free.gpu_bytes)} are free",
                "Use GPUs with more memory, or resume on CPUs",
                forceable=True,
            )
        )
    return tuple(found)


def in_words(size_bytes: int) -> str:
    """A size for people: ``1.5 GB``."""
    value, unit = float(size_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
