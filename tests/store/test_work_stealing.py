"""Is every byte of a file fetched once, and are there as many streams as make it faster?"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.transfer.work_stealing import GAIN, WINDOW_S, Ramp, Segment, Segments

MB = 1_000_000


@given(
    size=st.integers(1, 5000),
    cut=st.integers(1, 6000),
    smallest=st.integers(1, 200),
    seed=st.integers(0, 2**32),
)
def test_segments_of_streams_that_come_and_go_hold_every_byte(
    size: int, cut: int, smallest: int, seed: int
) -> None:
    choose = random.Random(seed)
    segments = Segments(size, cut, smallest)
    came = [0] * size
    held: list[Segment] = []
    while True:
        if (
            (not held or choose.random() < 0.3)
            and len(held) < 8
            and (taken := segments.take()) is not None
        ):
            assert taken.position < taken.end
            held.append(taken)
        if not held:
            break
        one = choose.choice(held)
        begin = one.position
        own = segments.came(one, choose.randrange(1, 400))
        for position in range(begin, begin + own):
            came[position] += 1
        if one.position == one.end:
            segments.done(one)
            held.remove(one)
    assert set(came) == {1}, "each byte is put in its place once"
    assert segments.come_bytes == size


def test_segment_is_halved_only_where_both_halves_are_worth_a_request() -> None:
    segments = Segments(100, 100, 30)
    first = segments.take()
    assert first is not None
    segments.came(first, 30)
    second = segments.take()
    assert second is not None
    assert (first.end, second.position, second.end) == (65, 65, 100)
    assert segments.take() is None, "35 bytes are left of each, which isn't twice 30"


def test_longest_rest_is_halved_first() -> None:
    segments = Segments(1000, 600, 1)
    long, short = segments.take(), segments.take()
    assert long is not None
    assert short is not None
    segments.came(long, 500)
    half = segments.take()
    assert half is not None
    assert half.end == short.end + (half.end - half.position) == 1000


def test_longest_rest_is_halved_first_wherever_it_lies() -> None:
    segments = Segments(1000, 600, 1)
    long, short, half = segments.take(), segments.take(), segments.take()
    assert half is not None
    assert long is not None
    assert short is not None
    assert ((half.position, half.end), long.end, short.end) == ((300, 600), 300, 1000)


def test_rest_of_twice_the_smallest_is_halved() -> None:
    segments = Segments(60, 60, 30)
    segments.take()
    half = segments.take()
    assert half is not None
    assert (half.position, half.end) == (30, 60)
    assert segments.take() is None


def test_bytes_flow_once_they_have_come_for_all_that_was_begun() -> None:
    segments = Segments(100, 50, 50)
    first, second = segments.take(), segments.take()
    assert first is not None
    assert second is not None
    seen = [segments.flowing]
    for one in (first, second):
        segments.came(one, 1)
        seen.append(segments.flowing)
    assert seen == [False, False, True]


class Store:
    """Each stream gets ``each``, all together ``whole`` bytes a second; a new one makes the store
    lose ``lost`` of the whole.

    ``waits_s``: until a request's first byte.
    """

    def __init__(self, each: float, whole: float, lost: float = 0.0, waits_s: float = 0.05) -> None:
        self.each, self.whole, self.lost, self.waits_s = each, whole, lost, waits_s

    def rate(self, streams: int) -> float:
        return min(streams * self.each, self.whole * (1 - self.lost) ** (streams - 1))


def fetched(store: Store, size: float, ramp: Ramp) -> float:
    """Seconds that a file takes."""
    now_s = come = 0.0
    while come < size:
        ramp.look(now_s, int(come), int(size - come), waited_s=store.waits_s, flowing=True)
        now_s += 0.02
        come += 0.02 * store.rate(ramp.streams)
    return now_s


def test_ramp_reaches_as_many_streams_as_a_far_store_needs() -> None:
    store = Store(each=60 * MB, whole=2000 * MB)
    ramp = Ramp(8)
    taken_s = fetched(store, 4000 * MB, ramp)
    assert ramp.streams == 8
    assert taken_s < 4000 / 480 + 4 * WINDOW_S + 1.0, "it takes four looks to get there"


def test_ramp_stays_small_where_one_stream_is_all_that_the_store_has() -> None:
    ramp = Ramp(8)
    fetched(Store(each=400 * MB, whole=420 * MB), 4000 * MB, ramp)
    assert ramp.streams == 2, "one try, and no more"


def test_ramp_does_not_follow_a_store_that_gets_slower() -> None:
    store = Store(each=500 * MB, whole=500 * MB, lost=0.4)
    ramp = Ramp(8)
    fetched(store, 4000 * MB, ramp)
    assert ramp.streams == 2


def test_ramp_asks_no_store_twice_that_lets_wait_for_as_long_as_the_rest_takes() -> None:
    ramp = Ramp(8)
    fetched(Store(each=900 * MB, whole=9000 * MB, waits_s=0.5), 1000 * MB, ramp)
    assert ramp.streams == 1


def test_ramp_asks_again_where_the_rest_takes_far_longer_than_a_request() -> None:
    ramp = Ramp(8)
    fetched(Store(each=900 * MB, whole=1500 * MB, waits_s=0.02), 1000 * MB, ramp)
    assert ramp.streams >= 2


def test_ramp_judges_nothing_before_bytes_come_on_every_stream() -> None:
    ramp = Ramp(8)
    for tick in range(100):
        ramp.look(tick * 0.05, 0, 1000 * MB, waited_s=0.0, flowing=False)
    assert ramp.streams == 1


def test_ramp_keeps_what_it_learned_for_the_next_file() -> None:
    ramp = Ramp(8)
    store = Store(each=60 * MB, whole=2000 * MB)
    fetched(store, 4000 * MB, ramp)
    assert fetched(store, 960 * MB, ramp) == pytest.approx(2.0, abs=0.1)


def test_ramp_that_is_told_its_number_keeps_it() -> None:
    ramp = Ramp(4, 4)
    fetched(Store(each=1 * MB, whole=100 * MB), 100 * MB, ramp)
    assert ramp.streams == 4


def test_ramp_takes_a_gain_below_its_bound_for_none() -> None:
    ramp = Ramp(8)
    fetched(Store(each=100 * MB, whole=100 * (GAIN - 0.05) * MB), 4000 * MB, ramp)
    assert ramp.streams == 2


def measured(ramp: Ramp, came: int, left: int, waited_s: float, took_s: float = 1.0) -> int:
    """How many streams there are after bytes have come within a time."""
    ramp.look(0.0, 0, left + came, waited_s=waited_s, flowing=True)
    ramp.look(took_s, came, left, waited_s=waited_s, flowing=True)
    return ramp.streams


@pytest.mark.parametrize(
    ("came", "left", "waited_s", "streams"),
    [
        (10, 31, 1.0, 2),
        (10, 30, 1.0, 1),  # three times as long as the first byte was waited for
        (1, 1, 1.0, 1),
        (0, 1, 1.0, 2),  # where nothing comes another stream can't be slower
    ],
)
def test_ramp_takes_another_stream_where_the_rest_takes_far_longer_than_the_wait(
    came: int, left: int, waited_s: float, streams: int
) -> None:
    assert measured(Ramp(8), came, left, waited_s) == streams


def test_ramp_measures_for_its_window_and_no_longer() -> None:
    assert measured(Ramp(8), 10, 1000, 0.0, WINDOW_S) == 2
    assert measured(Ramp(8), 10, 1000, 0.0, 0.9 * WINDOW_S) == 1


@pytest.mark.parametrize(("came", "streams"), [(12, 4), (11, 2)])
def test_ramp_that_gained_enough_goes_on_and_one_that_did_not_never_will(
    came: int, streams: int
) -> None:
    ramp = Ramp(8)
    measured(ramp, 10, 1000, 0.0)
    assert measured(ramp, came, 1000, 0.0) == streams
    measured(ramp, 1000, 100_000, 0.0)
    assert ramp.streams == (8 if streams == 4 else 2)


def test_ramp_begins_to_measure_anew_once_bytes_come_on_every_stream_again() -> None:
    ramp, seen = Ramp(8), []
    for now_s, flowing in ((0.0, True), (0.05, False), (0.1, True), (0.15, True), (0.2, True)):
        ramp.look(now_s, int(1000 * now_s), 10**6, waited_s=0.0, flowing=flowing)
        seen.append(ramp.streams)
    assert seen == [1, 1, 1, 1, 2]
