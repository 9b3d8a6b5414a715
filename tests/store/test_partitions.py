"""Do parts of a tensor make the whole, each element once?"""

from __future__ import annotations

import pytest

from orchestrator.errors import CorruptCheckpoint
from orchestrator.store.bundle.partitions import extent_shape, partition_problem, whole_extents
from orchestrator.store.bundle.slice_keys import Extents


@pytest.mark.parametrize(
    ("extents", "shape", "whole"),
    [
        ((), (), ()),
        ((), (4, 3), ((0, 4), (0, 3))),
        (((0, -1), (1, 2)), (4, 3), ((0, 4), (1, 2))),
        (((2, 2), (0, -1)), (4, 3), ((2, 2), (0, 3))),
        (((0, 4), (3, 0)), (4, 3), ((0, 4), (3, 0))),
    ],
)
def test_part_has_numbers_for_whole_dimensions(
    extents: Extents, shape: tuple[int, ...], whole: Extents
) -> None:
    assert whole_extents(extents, shape) == whole
    assert extent_shape(whole) == tuple(length for _, length in whole)


OUTSIDE: list[Extents] = [
    ((0, 4),),
    ((0, 4), (0, 3), (0, 1)),
    ((-1, 2), (0, 3)),
    ((2, -2), (0, 3)),
    ((2, 3), (0, 3)),
    ((0, 4), (1, 3)),
    ((5, 0), (0, 3)),
]


@pytest.mark.parametrize("extents", OUTSIDE)
def test_part_outside_of_its_tensor_is_refused(extents: Extents) -> None:
    with pytest.raises(CorruptCheckpoint) as raised:
        whole_extents(extents, (4, 3))
    assert raised.value.message == f"a part {list(extents)} lies outside of its tensor [4, 3]"
    assert raised.value.remedy == (
        "Use another checkpoint, or `tfresume salvage` for what can still be read of this one"
    )
    problem = partition_problem([((0, 4), (0, 3)), extents], (4, 3))
    assert problem == f"part {list(extents)} lies outside of [4, 3]"


@pytest.mark.parametrize(
    "parts",
    [
        [((0, 4), (0, 3))],
        [((1, 3), (0, 3)), ((0, 1), (0, 3))],
        [((0, 4), (0, 1)), ((0, 4), (1, 2))],
        [((0, 2), (0, 1)), ((0, 2), (1, 2)), ((2, 2), (0, 2)), ((2, 2), (2, 1))],
        [((0, 4), (0, 3)), ((4, 0), (0, 3))],
    ],
)
def test_blocks_that_hold_every_element_once_are_the_tensor(parts: list[Extents]) -> None:
    assert partition_problem(parts, (4, 3)) == ""


def test_tensor_without_elements_needs_no_parts() -> None:
    assert partition_problem([], (0, 3)) == ""
    assert partition_problem([()], ()) == ""


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([((0, 4), (0, 2))], "parts hold 8 of 12 elements"),
        ([((0, 3), (0, 3)), ((3, 1), (0, 2))], "parts hold 11 of 12 elements"),
        (
            [((2, 2), (0, 3)), ((0, 3), (0, 3))],
            "parts [(0, 3), (0, 3)] and [(2, 2), (0, 3)] hold the same elements",
        ),
        (
            [((0, 4), (2, 1)), ((0, 4), (1, 2)), ((0, 4), (0, 1))],
            "parts [(0, 4), (1, 2)] and [(0, 4), (2, 1)] hold the same elements",
        ),
        (  # neighbours in their order don't meet, the first and the last do
            [((0, 4), (0, 2)), ((1, 1), (2, 1)), ((2, 2), (0, 3))],
            "parts [(0, 4), (0, 2)] and [(2, 2), (0, 3)] hold the same elements",
        ),
        (  # nor where one of them holds nothing
            [((0, 4), (0, 3)), ((1, 0), (0, 3)), ((2, 2), (0, 3))],
            "parts [(0, 4), (0, 3)] and [(2, 2), (0, 3)] hold the same elements",
        ),
    ],
)
def test_parts_that_lack_elements_or_share_some_are_told(
    parts: list[Extents], problem: str
) -> None:
    assert partition_problem(parts, (4, 3)) == problem
