"""Lineage: what a run's history may hold, whatever drivers did in between."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import LeaseLost, OutputError, StorageUnavailable
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.layout import GenerationId
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run import lineage as lineages
from orchestrator.store.run.lineage import (
    Lineage,
    TakeOver,
    extend,
    read_lineage,
    record_takeover,
    shortened,
)
from orchestrator.vocabulary import Attempt, Generation
from tests.store.runs import saved


def generation_id(attempt: int, generation: int) -> GenerationId:
    return GenerationId(Attempt(attempt), Generation(generation))


def chain(*links: tuple[int, int, int]) -> Lineage:
    return Lineage(tuple(TakeOver(attempt=a, generation=g, step=s) for a, g, s in links))


@pytest.mark.parametrize(
    ("where", "step", "held"),
    [
        (generation_id(1, 1), 100, True),
        (generation_id(1, 1), 101, False),
        (generation_id(1, 2), 100, False),  # never in the chain
        (generation_id(2, 1), 100, True),
        (generation_id(2, 1), 150, True),
        (generation_id(2, 1), 151, False),
        (generation_id(2, 2), 10**9, True),
        (generation_id(3, 1), 1, False),
    ],
)
def test_lineage_holds_each_generation_up_to_its_successor(
    where: GenerationId, step: int, held: bool
) -> None:
    lineage = chain((1, 1, 0), (2, 1, 100), (2, 2, 150))
    assert lineage.holds(where, step) is held
    assert bool(lineage.why_not(where, step)) is not held


def test_lineage_roll_back_below_an_earlier_takeover_bounds_all_before() -> None:
    lineage = chain((1, 1, 0), (1, 2, 100), (1, 3, 40))
    assert lineage.holds(generation_id(1, 1), 40)
    assert not lineage.holds(generation_id(1, 1), 60)
    assert not lineage.holds(generation_id(1, 2), 100)
    assert "a0001-g0003 had taken over at step 40" in lineage.why_not(generation_id(1, 1), 60)


def test_extend_from_the_source_forgets_everything() -> None:
    lineage = extend(chain((1, 1, 0), (1, 2, 100)), TakeOver(attempt=1, generation=3, step=0), None)
    assert [link.generation for link in lineage.chain] == [3]


def test_extend_from_a_stranger_is_refused() -> None:
    with pytest.raises(OutputError, match="isn't part"):
        extend(chain((1, 1, 0)), TakeOver(attempt=2, generation=1, step=5), generation_id(1, 7))


STEPS = st.lists(
    st.tuples(st.sampled_from(["same", "attempt"]), st.integers(0, 500), st.integers(0, 5)),
    min_size=1,
    max_size=12,
)


@pytest.mark.slow
@given(STEPS)
@settings(max_examples=200)
def test_lineage_any_history_is_one_line(history: list[tuple[str, int, int]]) -> None:
    """Each take-over goes on from a generation in the lineage at a step that it holds; afterwards
    every step of training has one owner.
    """
    lineage = extend(Lineage(), TakeOver(attempt=1, generation=1, step=0), None)
    attempt, generation = 1, 1
    for kind, step, back in history:
        attempt, generation = (attempt + 1, 1) if kind == "attempt" else (attempt, generation + 1)
        parent = lineage.chain[max(0, len(lineage.chain) - 1 - back)]
        # Nobody goes on from a step that its parent hadn't reached, or that isn't in the lineage
        step = int(min(max(step, parent.step), lineage.bound(parent.generation_id)))
        lineage = extend(
            lineage,
            TakeOver(attempt=attempt, generation=generation, step=step),
            parent.generation_id,
        )
        assert lineage.head is not None
        assert lineage.head.generation_id == generation_id(attempt, generation)
        bounds = [lineage.bound(link.generation_id) for link in lineage.chain]
        assert bounds == sorted(bounds)
        assert all(link.step <= bound for link, bound in zip(lineage.chain, bounds, strict=True))
        ids = [link.generation_id for link in lineage.chain]
        assert ids == sorted(ids)
        with pytest.raises(LeaseLost):
            extend(
                lineage,
                TakeOver(attempt=attempt, generation=generation, step=step),
                parent.generation_id,
            )


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 40)), max_size=8))
@settings(max_examples=60)
def test_takeovers_in_any_order_read_back_as_recorded_or_are_refused(
    calls: list[tuple[int, int, int]],
) -> None:
    output = open_location(f"memory://{uuid.uuid4().hex}")
    expected: list[tuple[int, int, int]] = []
    for attempt, generation, step in calls:
        try:
            record_takeover(output, attempt, generation, step)
        except LeaseLost:
            assert expected
            assert (attempt, generation) <= expected[-1][:2]
        else:
            if not expected or expected[-1] != (attempt, generation, step):
                expected.append((attempt, generation, step))
        assert [
            (link.attempt, link.generation, link.step) for link in read_lineage(output).chain
        ] == expected


def test_clocks_of_writers_that_disagree_change_nothing() -> None:
    output = open_location(f"memory://{uuid.uuid4().hex}")
    record_takeover(output, 1, 1, 0)
    saved(output, 100, created=4e9)  # the first driver's clock was a century ahead
    record_takeover(output, 2, 1, 100, parent=(1, 1))
    saved(output, 200, attempt=2, created=1.0)
    from orchestrator.store.checkpoints.newest_good import newest_good

    newest = newest_good(output)
    assert newest.checkpoint is not None
    assert newest.checkpoint.step == 200


# -- a run that is interrupted for months


@pytest.mark.slow
@given(STEPS, st.integers(2, 8), st.sets(st.integers(0, 12)))
@settings(max_examples=300)
def test_lineage_that_was_shortened_bounds_what_is_there_as_before_and_holds_nothing_else(
    history: list[tuple[str, int, int]], longest: int, living: set[int]
) -> None:
    lineage = extend(Lineage(), TakeOver(attempt=1, generation=1, step=0), None)
    for number, (_, step, back) in enumerate(history, 2):
        parent = lineage.chain[max(0, len(lineage.chain) - 1 - back)]
        step = int(min(max(step, parent.step), lineage.bound(parent.generation_id)))
        record = TakeOver(attempt=1, generation=number, step=step)
        lineage = extend(lineage, record, parent.generation_id)
    alive = {link.generation_id for place, link in enumerate(lineage.chain) if place in living}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.store.run.lineage.CHAIN", longest)
        short = shortened(lineage, alive)
        assert len(short.chain) <= max(longest, longest // 2 + len(alive))
    kept = {link.generation_id for link in short.chain}
    newest = {link.generation_id for link in lineage.chain[-(longest // 2) :]}
    assert alive | newest <= kept
    assert short.head == lineage.head
    for link in lineage.chain:
        if link.generation_id in alive | newest:
            assert short.bound(link.generation_id) == lineage.bound(link.generation_id)
            late = int(min(lineage.bound(link.generation_id), 10**6)) + 1
            if link != lineage.head:
                assert short.why_not(link.generation_id, late)
        elif link.generation_id not in kept:
            assert short.bound(link.generation_id) == -1


@pytest.mark.slow
def test_take_overs_of_months_stay_few_records_of_bounded_size_and_fence_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.store.run.lineage.CHAIN", 16)
    monkeypatch.setattr("orchestrator.store.run.lineage.RECORDS", 4)
    output = open_location(f"memory://{uuid.uuid4().hex}")
    directory = output.child("_tfresume", "lineage")
    most = largest = 0
    for generation in range(1, 400):
        record_takeover(output, 1, generation, 10 * generation)
        if generation in (3, 150):
            saved(output, 10 * generation + 5, generation=generation)
        records = directory.list()
        most = max(most, len(records))
        largest = max(largest, max(record.size_bytes for record in records))
    assert most <= 2 * 4 + 1
    assert largest <= 100 * (16 + 2 + 1)
    lineage = read_lineage(output)
    assert lineage.bound(generation_id(1, 3)) == 40
    assert lineage.bound(generation_id(1, 150)) == 1510
    assert [item.step for item in list_checkpoints(output)] == [1505, 35]
    assert "isn't part" in lineage.why_not(generation_id(1, 151), 1511)
    with pytest.raises(LeaseLost):
        record_takeover(output, 1, 200, 2000)


@pytest.mark.parametrize(
    ("lineage", "where", "step", "why"),
    [
        (
            chain((1, 1, 0), (2, 1, 100), (2, 2, 150)),
            generation_id(1, 1),
            101,
            "saved at step 101 by a0001-g0001, after a0002-g0001 had taken over at step 100",
        ),
        (
            chain((1, 1, 0), (2, 1, 0)),
            generation_id(1, 1),
            5,
            "saved at step 5 by a0001-g0001, after a0002-g0001 had taken over at step 0",
        ),
        (
            Lineage((TakeOver(attempt=1, generation=1, step=5, last=5), *chain((3, 1, 50)).chain)),
            generation_id(1, 1),
            6,
            "saved at step 6 by a0001-g0001, after another generation had taken over at step 5",
        ),
        (
            chain((2, 1, 0)),
            generation_id(1, 1),
            5,
            "a0001-g0001 isn't part of this run's lineage",
        ),
    ],
)
def test_why_not_names_who_had_taken_over_and_where(
    lineage: Lineage, where: GenerationId, step: int, why: str
) -> None:
    assert lineage.why_not(where, step) == why


@pytest.mark.parametrize(
    ("parent", "kept"),
    [
        (None, [(1, 1), (1, 2), (2, 1), (3, 1)]),
        ((0, 0), [(3, 1)]),
        ((1, 2), [(1, 1), (1, 2), (3, 1)]),
        ((2, 1), [(1, 1), (1, 2), (2, 1), (3, 1)]),
    ],
)
def test_take_over_goes_on_from_the_parent_that_it_names(
    parent: tuple[int, int] | None, kept: list[tuple[int, int]], tmp_path: Path
) -> None:
    output = open_location(str(tmp_path))
    record_takeover(output, 1, 1, 0)
    record_takeover(output, 1, 2, 10)
    record_takeover(output, 2, 1, 20)
    found = record_takeover(output, 3, 1, 5, parent)
    assert [(link.attempt, link.generation) for link in found.chain] == kept
    assert read_lineage(output) == found


def test_take_over_that_cannot_be_says_what_to_do() -> None:
    lineage = chain((1, 1, 0), (2, 1, 10))
    with pytest.raises(OutputError, match="a0009-g0001 isn't part") as stranger:
        extend(lineage, TakeOver(attempt=3, generation=1, step=5), generation_id(9, 1))
    assert stranger.value.remedy == "Resume from a checkpoint that is"
    with pytest.raises(LeaseLost, match="a0001-g0002 comes too late: a0002-g0001 has") as late:
        extend(lineage, TakeOver(attempt=1, generation=2, step=5), generation_id(1, 1))
    assert late.value.remedy == "Nothing to do: the other driver goes on"


def test_lineage_that_is_as_long_as_it_may_be_stays_as_it_is() -> None:
    longest = chain(*((number, 1, number) for number in range(1, lineages.CHAIN + 1)))
    assert shortened(longest, set()) is longest
    assert (
        len(shortened(Lineage((*longest.chain, longest.chain[-1])), set()).chain) < lineages.CHAIN
    )


def test_long_lineage_keeps_its_newest_half_as_it_is_and_of_the_older_one_what_has_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lineages, "CHAIN", 8)
    long = chain(*((number, 1, 10 * number) for number in range(1, 10)))
    alive = {generation_id(attempt, 1) for attempt in (1, 5, 6)}
    assert [(link.attempt, link.last) for link in shortened(long, alive).chain] == [
        *((1, 20), (5, 60), (6, None), (7, None), (8, None), (9, None))
    ]


def test_run_goes_on_from_a_generation_that_holds_its_first_step_only() -> None:
    """A driver that died before its first step was followed from where it had begun."""
    lineage = chain((1, 1, 0), (2, 1, 0))
    found = extend(lineage, TakeOver(attempt=3, generation=1, step=0), generation_id(1, 1))
    assert [(link.attempt, link.step) for link in found.chain] == [(1, 0), (3, 0)]


def test_damaged_record_of_a_take_over_is_named(tmp_path: Path) -> None:
    output = open_location(str(tmp_path))
    record_takeover(output, 1, 1, 0)
    output.child("_tfresume", "lineage", "a0001-g0001.json").write_bytes(b"{")
    with pytest.raises(OutputError, match=r"lineage/a0001-g0001\.json is damaged"):
        read_lineage(output)


def test_take_overs_of_a_few_that_may_stay_bound_those_that_have_files_and_are_forgotten_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in months, with smaller numbers."""
    monkeypatch.setattr(lineages, "CHAIN", 8)
    monkeypatch.setattr(lineages, "RECORDS", 2)
    output = open_location(str(tmp_path))
    output.child("a0003-g0001", "model.ckpt-4.index").write_bytes(b"file")
    records = []
    for attempt in range(1, 41):
        record_takeover(output, attempt, 1, attempt)
        records.append(len(output.child("_tfresume", "lineage").list()))
    assert max(records) == 4, "they're deleted two at a time"
    lineage = read_lineage(output)
    assert len(lineage.chain) <= 8
    assert lineage.bound(generation_id(3, 1)) == 4
    assert lineage.bound(generation_id(4, 1)) == -1
    names = {entry.name for entry in output.child("_tfresume", "lineage").list()}
    assert len(names) <= 4
    assert "a0040-g0001.json" in names


def test_record_that_the_store_does_not_delete_stays_and_the_take_over_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineages, "RECORDS", 1)
    refused = []

    def refuses(location: Location) -> None:
        refused.append(location.name)
        raise StorageUnavailable("503")

    monkeypatch.setattr(Location, "delete", refuses)
    output = open_location(str(tmp_path))
    for attempt in range(1, 5):
        record_takeover(output, attempt, 1, attempt)
    head = read_lineage(output).head
    assert head is not None
    assert head.attempt == 4
    assert refused == ["a0001-g0001.json", "a0001-g0001.json", "a0002-g0001.json"]
