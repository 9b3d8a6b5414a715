"""In which order are the slots of a step added?

Rule: in one fixed binary tree over the slots, whoever computed them, so that the sum has the same
bits on any number of workers. With k nodes left and s the largest power of two below k, node j
takes in node j + s, for every j that has one; then s nodes are left. Slots that are equal modulo a
power of two come together first, so rank r of 2, 4, 8 … ranks, which computes the slots equal to r,
adds them alone.

The shape is the fold of Rabenseifner's reduction for numbers that are no powers of two (MPICH,
``allreduce_intra_recursive_doubling.c``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Node = tuple[int, ...]
"""A sum, named by the slots in it, in the tree's order."""
Value = TypeVar("Value")


@functools.cache
def additions(slots: int) -> tuple[tuple[Node, Node], ...]:
    """(left, right) of every addition of the tree, in an order in which they can be done; the last
    one gives the whole.
    """
    nodes: list[Node] = [(slot,) for slot in range(slots)]
    found: list[tuple[Node, Node]] = []
    while len(nodes) > 1:
        half = 1 << ((len(nodes) - 1).bit_length() - 1)
        for place in range(len(nodes) - half):
            found.append((nodes[place], nodes[place + half]))
            nodes[place] += nodes[place + half]
        del nodes[half:]
    return tuple(found)


def root(slots: int) -> Node:
    """The node of the whole sum."""
    last = additions(slots)
    return last[-1][0] + last[-1][1] if last else (0,)


@functools.lru_cache(maxsize=1024)
def nodes_of(slots: int, held: frozenset[int]) -> tuple[Node, ...]:
    """What a process that computed the slots ``held`` has left after adding all that the tree lets
    it add alone.
    """
    parts: dict[Node, None] = {(slot,): None for slot in held}
    add_up(slots, parts, lambda left, right: None)
    return tuple(sorted(parts))


def add_up(slots: int, parts: dict[Node, Value], add: Callable[[Value, Value], Value]) -> None:
    """Add whatever of ``parts`` the tree lets be added, in place."""
    for left, right in additions(slots):
        if left in parts and right in parts:
            parts[left + right] = add(parts.pop(left), parts.pop(right))


class ShapesDiffer(ValueError):
    """Two slots' arrays can't be added; ``place`` is their number among each slot's arrays."""

    def __init__(self, place: int, told: str) -> None:
        super().__init__(told)
        self.place = place


class Accumulator:
    """One process's sums of one round; it holds a sum per level of the tree where the tree allows
    it, not an array per slot.

    Args:
        slots: slots of the step.

    Attributes:
        nodes: node to its arrays.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self.nodes: dict[Node, list[np.ndarray]] = {}

    def add(self, slot: int, arrays: Sequence[np.ndarray]) -> None:
        """Take in what a slot gave. The arrays are read until they are added, and never changed."""
        self.nodes[slot,] = list(arrays)
        for left, right in additions(self._slots):
            if left in self.nodes and right in self.nodes:
                # A sum of several slots was made here, and may be written to; what a slot gave
                # belongs to TensorFlow
                own = len(left) > 1
                self.nodes[left + right] = _added(
                    self.nodes.pop(left), self.nodes.pop(right), into_left=own
                )


def _added(
    left: Sequence[np.ndarray], right: Sequence[np.ndarray], *, into_left: bool
) -> list[np.ndarray]:
    total: list[np.ndarray] = []
    for place, (one, two) in enumerate(zip(left, right, strict=True)):
        if one.shape != two.shape or one.dtype != two.dtype:
            raise ShapesDiffer(
                place,
                f"one batch of this step gave {one.dtype}{list(one.shape)}, another {two.dtype}{list(two.shape)}",
            )
        # numpy gives a scalar for arrays without dimensions
        total.append(np.asarray(np.add(one, two, out=one if into_left else None)))
    return total
