"""Is there one order of adding, whoever adds?"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.training.group.layout import Layout, parts_of
from orchestrator.training.group.summation import (
    Accumulator,
    Node,
    add_up,
    additions,
    nodes_of,
    root,
)

SLOTS = st.integers(1, 40)


@given(SLOTS)
def test_tree_adds_every_slot_once(slots: int) -> None:
    assert sorted(root(slots)) == list(range(slots))
    assert len(additions(slots)) == slots - 1


def test_tree_of_six_is_the_one_that_is_described() -> None:
    assert additions(6) == (
        ((0,), (4,)),
        ((1,), (5,)),
        ((0, 4), (2,)),
        ((1, 5), (3,)),
        ((0, 4, 2), (1, 5, 3)),
    )


@given(SLOTS, st.sampled_from([1, 2, 4, 8]))
def test_rank_of_a_power_of_two_adds_its_own_slots_alone(slots: int, ranks: int) -> None:
    if ranks <= slots:
        for rank in range(ranks):
            assert len(nodes_of(slots, frozenset(range(rank, slots, ranks)))) == 1


@given(SLOTS, st.integers(1, 7), st.integers())
def test_whoever_adds_first_the_whole_has_the_same_bits(slots: int, ranks: int, seed: int) -> None:
    draw = np.random.default_rng(abs(seed))
    arrays = [
        draw.normal(size=3).astype(np.float32) * np.float32(10.0 ** draw.integers(-6, 6))
        for _ in range(slots)
    ]
    whole: dict[Node, Any] = {(slot,): array for slot, array in enumerate(arrays)}
    add_up(slots, whole, lambda left, right: left + right)
    owners = [random.Random(seed).randrange(ranks) for _ in range(slots)]
    parts = {}
    for rank in range(ranks):
        sums = Accumulator(slots)
        own = [slot for slot in range(slots) if owners[slot] == rank]
        random.Random(seed + rank).shuffle(own)
        for slot in own:
            sums.add(slot, [arrays[slot]])
        assert tuple(sorted(sums.nodes)) == nodes_of(slots, frozenset(own))
        parts.update({node: array for node, (array,) in sums.nodes.items()})
    add_up(slots, parts, lambda left, right: left + right)
    assert parts[root(slots)].tobytes() == whole[root(slots)].tobytes()


@given(SLOTS, st.integers())
def test_what_a_slot_gave_is_never_written_to(slots: int, seed: int) -> None:
    order = list(range(slots))
    random.Random(seed).shuffle(order)
    sums = Accumulator(slots)
    for slot in order:
        given_array = np.full(4, slot + 1.0, np.float32)
        given_array.flags.writeable = False  # as a sum into it would raise
        sums.add(slot, [given_array])
    ((total,),) = sums.nodes.values()
    assert total.tolist() == [sum(range(1, slots + 1))] * 4


def test_slots_of_different_shapes_are_refused() -> None:
    sums = Accumulator(2)
    sums.add(0, [np.zeros(3)])
    with pytest.raises(ValueError, match="one batch of this step gave"):
        sums.add(1, [np.zeros(4)])


SHAPES = st.lists(
    st.tuples(
        st.sampled_from(["float32", "float64", "complex64"]),
        st.lists(st.integers(0, 9), max_size=3),
    ),
    max_size=8,
)


@given(SHAPES, st.integers(1, 6))
def test_layout_puts_every_element_into_one_place_however_it_is_cut(
    shapes: list[tuple[str, list[int]]], parts: int
) -> None:
    draw = np.random.default_rng(1)
    arrays = [np.asarray(draw.normal(size=shape), dtype) for dtype, shape in shapes]
    layout = Layout.of(arrays)
    memory = np.zeros(layout.size, np.uint8)
    for begin, end in parts_of(layout.size, parts):
        assert begin % 64 == 0
        for piece in layout.pieces(begin, end):
            flat = arrays[piece.array].reshape(-1)[piece.first : piece.last]
            memory[begin + piece.offset : begin + piece.offset + flat.nbytes] = np.frombuffer(
                flat.tobytes(), np.uint8
            )
    for view, array in zip(layout.views(memory), arrays, strict=True):
        assert view.dtype == array.dtype
        assert view.tobytes() == array.tobytes()
        assert view.ctypes.data % array.dtype.itemsize == 0


@given(SHAPES, st.integers(1, 6))
def test_stretches_hold_one_type_each_and_leave_nothing_out(
    shapes: list[tuple[str, list[int]]], parts: int
) -> None:
    layout = Layout.of([np.zeros(shape, dtype) for dtype, shape in shapes])
    for begin, end in parts_of(layout.size, parts):
        at = begin
        for stretch in layout.typed_ranges(begin, end):
            assert stretch.begin == at
            at = stretch.end
        assert at == end
