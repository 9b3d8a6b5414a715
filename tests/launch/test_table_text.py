"""How are tables told of that could be divided among workers?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from launch.text.table_text import render_shares, render_sharing
from orchestrator.graph.tables.shares import NoTable, Shares, Sharing, TableShare
from orchestrator.graph.worker_graph import Variable

ROWS = 1_000_000
VARIABLES = (
    Variable("users", "ref", "float32", (ROWS, 64), trainable=True),
    Variable("users/Adagrad", "ref", "float32", (ROWS, 64), slot_of="users"),
    Variable("softmax", "ref", "float32", (ROWS, 2), trainable=True),
)
SHARES = Shares(
    (TableShare("users", ROWS, (64,), "float32", 1, 1, 2 * ROWS * 256),),
    (NoTable("softmax", ROWS * 8, "loss/MatMul", "MatMul", "multiplies by all its rows"),),
    VARIABLES,
    {"users": ROWS, "users/Adagrad": ROWS},
)


def printed(render: Callable[[Any, Console], None], found: Any) -> str:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115  closed with the console
    with console.file:
        render(found, console)
        return console.export_text()


def test_tables_are_shown_with_what_each_of_some_numbers_of_workers_would_hold() -> None:
    text = printed(render_shares, SHARES)

    assert "users: 1000000 rows, 512.0 MB with 1 slot\n" in text
    assert "not softmax, 8.0 MB: loss/MatMul multiplies by all its rows" in text
    assert "holds all 520.0 MB" in text
    assert "264.0 MB of 2, 136.0 MB of 4" in text
    assert "held by two of them (--table-copies 2) 520.0 MB of 2, 264.0 MB of 4" in text


@pytest.mark.parametrize(
    ("memory_bytes", "said"),
    [
        (500_000_000, "would take"),
        (1_000_000, "no number of workers would be enough with 1.0 MB"),
        (None, "each of 4 would hold 136.0 MB"),
    ],
)
def test_run_is_told_what_its_workers_would_hold_and_how_many_it_takes(
    memory_bytes: int | None, said: str
) -> None:
    enough = None
    if memory_bytes is not None:
        enough = SHARES.smallest_group(memory_bytes, gpu=False)
    found = Sharing(SHARES, 4, SHARES.of_worker(1), SHARES.of_worker(4), memory_bytes, enough)

    assert said in printed(render_sharing, found)
    if enough is not None:
        assert SHARES.host_bytes(enough, gpu=False) <= (memory_bytes or 0)
        assert SHARES.host_bytes(enough - 1, gpu=False) > (memory_bytes or 0)


def test_run_whose_rows_two_hold_is_told_so() -> None:
    twice = replace(SHARES, copies=2)
    found = Sharing(twice, 4, twice.of_worker(1), twice.of_worker(4), None, None)

    assert "with tables divided and each row held by two each of 4 would hold 264.0 MB" in printed(
        render_sharing, found
    )


def test_graph_without_tables_is_told_nothing() -> None:
    assert not printed(render_shares, replace(SHARES, tables=(), members={}))
