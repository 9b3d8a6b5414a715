"""Are the rows that a worker tells of, since a save, those that it has written since its copy?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import OutputError
from orchestrator.graph.worker_graph import Variable, WorkerGraph
from orchestrator.graph.worker_tables import RowWrite, ShardedPart, ShardedTables
from orchestrator.training.state import written_rows as module
from orchestrator.training.state.written_rows import WrittenRows, saved_by_row

ROWS, SHARE = 1000, (1, 3)
BLOCK = 333
"""Rows of rank 1 of 3."""


def part(*written: RowWrite, rewritten: tuple[str, ...] = ()) -> ShardedPart:
    return ShardedPart(
        *("emb", "emb", ("emb", "emb/m", "emb/v"), ROWS, (4,), "f:0", "c:0"),
        written=written,
        rewritten=rewritten,
    )


TABLES = ShardedTables(
    (
        part(
            RowWrite("emb", "a:0", (0,)),
            RowWrite("emb", "b:0", (0, 1)),
            RowWrite("emb/m", "a:0", (0,)),
        ),
    )
)
Rows = list[int]
rows_of_a_step = st.lists(st.integers(0, BLOCK - 1), max_size=5)
life = st.lists(
    st.one_of(
        st.tuples(st.just("first"), rows_of_a_step, rows_of_a_step),
        st.tuples(st.just("second"), rows_of_a_step, rows_of_a_step),
        st.tuples(st.just("full"), st.none(), st.none()),
        st.tuples(st.just("over"), st.booleans(), st.none()),
    ),
    max_size=40,
)


@pytest.mark.slow
@given(life)
def test_rows_since_the_save_that_counts_are_told_whatever_was_lost_in_between(
    happened: list[tuple[str, Rows | bool | None, Rows | None]],
) -> None:
    written = WrittenRows(TABLES, ("emb", "emb/m"))
    since: dict[str, set[int]] = {"emb": set(), "emb/m": set()}
    ground, number = 0, 0
    for what, one, two in happened:
        if what == "first":
            values = {"a:0": np.array(one, np.int32), "b:0": np.array(two, np.int32)}
            written.note(0, values)
            since["emb"] |= {*one, *two}  # type: ignore[misc]
            since["emb/m"] |= {*one}  # type: ignore[misc]
        elif what == "second":
            written.note(1, {"b:0": np.array(one, np.int64)})
            since["emb"] |= {*one}  # type: ignore[misc]
        elif what == "full":
            number += 1
            assert written.changed((1, number), None, SHARE) is None
            ground, since = number, {"emb": set(), "emb/m": set()}
        elif ground:
            number += 1
            found = written.changed((1, number), (1, ground), SHARE)
            assert found is not None
            assert {name: rows.tolist() for name, rows in found.items()} == {
                name: sorted(rows) for name, rows in since.items()
            }
            if one:  # it's committed, and else it's lost
                ground, since = number, {"emb": set(), "emb/m": set()}


def test_runs_of_a_train_operation_are_asked_for_each_tensor_once() -> None:
    written = WrittenRows(TABLES, ("emb", "emb/m"))
    assert written.tensors(0) == ("a:0", "b:0")
    assert written.tensors(1) == ("b:0",)
    assert written.tensors(2) == ()
    assert WrittenRows(TABLES, ("emb/m",)).tensors(1) == ()


def test_many_rows_are_told_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKED_AT", 3)
    written = WrittenRows(TABLES, ("emb",))
    written.changed((1, 1), None, SHARE)
    rows = np.random.default_rng(1).permutation(BLOCK)
    written.note(0, {"a:0": rows[:200], "b:0": rows[150:320]})
    found = written.changed((1, 2), (1, 1), SHARE)
    assert found is not None
    assert found["emb"].tolist() == sorted(rows[:320].tolist())
    assert found["emb"].dtype == np.int64


def test_nothing_is_known_after_a_state_was_given_of_another_block_or_of_another_save() -> None:
    written = WrittenRows(TABLES, ("emb",))
    with pytest.raises(OutputError, match="since save 1 isn't known"):
        written.changed((1, 2), (1, 1), SHARE)
    written.changed((1, 1), None, SHARE)
    with pytest.raises(OutputError):
        written.changed((1, 2), (1, 1), (0, 3))
    with pytest.raises(OutputError):
        written.changed((2, 2), (2, 1), SHARE)
    written.forget()
    with pytest.raises(OutputError):
        written.changed((1, 3), (1, 1), SHARE)


def graph_of(*variables: Variable, tables: ShardedTables) -> WorkerGraph:
    return WorkerGraph(b"", b"", (), (), variables, (), tables=tables)


def _variable(name: str, key: str = "", spec: str = "") -> Variable:
    return Variable(name, "ref", "float32", None, key=key or name, slice_spec=spec)


def test_variable_that_is_also_written_as_a_block_is_saved_whole() -> None:
    tables = ShardedTables((part(RowWrite("emb", "a:0", (0,)), rewritten=("emb/m",)),))
    variables = (_variable("emb"), _variable("emb/m"), _variable("emb/v"))
    graph = graph_of(*variables, tables=tables)
    assert saved_by_row(graph) == {"emb", "emb/v"}


def test_parts_of_one_tensor_are_saved_alike() -> None:
    """A tensor is in a checkpoint by rows or by slices, not both."""
    parts = tuple(
        ShardedPart("emb", name, (name,), 10, (4,), "f:0", "c:0", rewritten=rewritten)
        for name, rewritten in (("emb/0", ()), ("emb/1", ("emb/1",)))
    )
    names = [_variable(f"emb/{number}", "emb", f"20 4 {10 * number},10:-") for number in (0, 1)]
    assert saved_by_row(graph_of(*names, tables=ShardedTables(parts))) == set()
    alike = tuple(
        ShardedPart("emb", each.variable, each.members, 10, (4,), "f:0", "c:0") for each in parts
    )
    assert len(saved_by_row(graph_of(*names, tables=ShardedTables(alike)))) == 2
    across = [_variable(f"emb/{number}", "emb", f"10 8 -:{4 * number},4") for number in (0, 1)]
    assert saved_by_row(graph_of(*across, tables=ShardedTables(alike))) == set()
