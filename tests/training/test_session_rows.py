"""Are rows in a session read and written as those of an array, a portion at a time, and by nobody
once they may change?
"""

from __future__ import annotations

import threading
from typing import Any

import google_crc32c
import numpy as np
import pytest

from orchestrator.errors import OutputError
from orchestrator.store.bundle.in_memory import BundleInMemory, TensorInMemory
from orchestrator.training.state import session_rows
from orchestrator.training.state.session_rows import (
    BytesOfRows,
    LiveRows,
    RowCalls,
    SessionRows,
    Stillness,
)
from orchestrator.training.state.sizes import size_of
from orchestrator.training.state.state import State, nonfinite


class Kept:
    """An array in place of a session's variable, and the largest part of it that was asked for."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.most = values, 0
        self.stillness = Stillness()
        calls = RowCalls(self._take, self._put)
        self.rows = SessionRows(calls, values.shape, values.dtype, self.stillness)

    def _take(self, numbers: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(numbers))
        return self.values[numbers]

    def _put(self, numbers: np.ndarray, values: np.ndarray) -> None:
        self.values[numbers] = values


@pytest.fixture(params=[(103, 5), (103,), (7, 3, 2)])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(session_rows, "PORTION_BYTES", 400)
    shape: tuple[int, ...] = request.param
    return Kept(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 7)


def test_rows_are_those_of_the_array(kept: Kept) -> None:
    rows, values = kept.rows, kept.values
    assert (rows.shape, rows.size, rows.nbytes, len(rows)) == (
        values.shape,
        values.size,
        values.nbytes,
        len(values),
    )
    np.testing.assert_array_equal(rows[2:5], values[2:5])
    assert not len(rows[5:5])
    rows[3:5] = -values[3:5]
    np.testing.assert_array_equal(rows[3:5], values[3:5])
    assert (values[4] < 0).all()
    with pytest.raises(ValueError, match="2 rows for 3"):
        rows[:3] = values[:2]


def test_portions_cover_all_rows_and_are_small(kept: Kept) -> None:
    portions = list(kept.rows.portions())
    assert [low for low, _ in portions[1:]] == [high for _, high in portions[:-1]]
    assert (portions[0][0], portions[-1][1]) == (0, len(kept.rows))
    row_bytes = kept.rows.nbytes // len(kept.rows) + 8
    assert all((high - low) * row_bytes <= 400 for low, high in portions)


def test_any_part_of_the_bytes_is_that_of_the_array(kept: Kept) -> None:
    content, whole = BytesOfRows(kept.rows), kept.values.tobytes()
    assert len(content) == len(whole)
    draw = np.random.default_rng(1)
    for _ in range(50):
        begin, end = sorted(draw.integers(0, len(whole) + 9, 2).tolist())
        assert bytes(content[begin:end]) == whole[begin:end]


def test_data_file_of_rows_has_the_bytes_and_checksums_of_a_copys(kept: Kept) -> None:
    memory = kept.values.reshape(-1).view(np.uint8).data
    made = []
    for piece in (memory, BytesOfRows(kept.rows)):
        tensors = [
            TensorInMemory("a", "int64", (), (np.int64(5).tobytes(),)),
            TensorInMemory("t", "float32", kept.values.shape, (piece,)),
        ]
        made.append(BundleInMemory("m-5", tensors))
    copied, live = made
    assert live.report() == copied.report()
    content = live.data()
    assert content.record() == copied.data().record()
    whole = b"".join(content.read(start, 33) for start in range(0, content.size_bytes, 33))
    assert google_crc32c.value(whole) == content.record().crc32c


@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_sizes_and_bad_values_are_found_as_in_an_array(kept: Kept, bad: float | None) -> None:
    if bad is not None:
        kept.values.reshape(-1)[-1] = bad
    state = State(1, {}, live=LiveRows({"t": kept.rows}, kept.stillness))
    assert nonfinite(state) == (() if bad is None else ("t",))
    mine, theirs = size_of(kept.rows, trained=True), size_of(kept.values, trained=True)
    assert (mine.largest, mine.uniform, mine.elements) == (
        theirs.largest,
        theirs.uniform,
        theirs.elements,
    )
    assert mine.rms == pytest.approx(theirs.rms, rel=1e-12)


def test_nobody_reads_rows_that_may_change_and_who_reads_is_waited_for() -> None:
    kept = Kept(np.zeros((4, 2), np.float32))
    inside, go_on = threading.Event(), threading.Event()
    take = kept._take

    def slowly(numbers: np.ndarray) -> np.ndarray:
        inside.set()
        assert go_on.wait(10)
        return take(numbers)

    rows: Any = SessionRows(
        RowCalls(slowly, kept._put), (4, 2), np.dtype("float32"), kept.stillness
    )
    reader = threading.Thread(target=lambda: rows[:2])
    reader.start()
    assert inside.wait(10)
    ending = threading.Thread(target=kept.stillness.end)
    ending.start()
    ending.join(0.05)
    assert ending.is_alive()
    go_on.set()
    ending.join(10)
    reader.join(10)
    assert not ending.is_alive()
    with pytest.raises(OutputError, match="broken off"):
        rows[:2]
