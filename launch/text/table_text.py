"""How are tables shown that could be divided among workers?

Rule: the largest first; what each worker would hold follows. Where nothing could be divided, large
variables are told of with the node that needs them whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from launch.text.inspect_text import clean
from orchestrator.graph.tables.shares import SIZES, NoTable, Shares, Sharing, TableShare
from orchestrator.graph.variables.memory import in_words

TABLES = 10
"""Tables shown; ``--json`` has them all."""
WORTH_BYTES = 1 << 20
"""Of a variable that is needed whole, so that it's worth a line: smaller ones would save nothing."""


def render_shares(found: Shares, console: Console) -> None:
    """Print what could be divided, and how much each of some numbers of workers would hold."""
    if not found.tables:
        return
    _tables(found.tables, console)
    _wholes(found.wholes, console)
    whole = in_words(found.of_worker(1))
    console.print(
        f"  by default each worker holds all {whole} of the state; with each table divided it would hold {_by_sizes(found)}"
    )
    console.print(
        f"  with each row held by two of them (--table-copies 2) {_by_sizes(replace(found, copies=2))}"
    )


def render_sharing(found: Sharing, console: Console) -> None:
    """Print what a run's workers would hold, and how many of them it takes."""
    if not found.shares.tables:
        return
    _tables(found.shares.tables, console)
    _wholes(found.shares.wholes, console)
    held, would = in_words(found.whole_bytes), in_words(found.divided_bytes)
    twice = " and each row held by two" if found.shares.copies > 1 else ""
    console.print(
        f"  a worker holds {held}; with tables divided{twice} each of {found.workers} would hold {would}"
    )
    if found.memory_bytes is None:
        return
    memory = in_words(found.memory_bytes)
    console.print(
        f"  with {memory} for each it would take {_counted(found.enough_workers, 'worker')}"
        if found.enough_workers is not None
        else f"  no number of workers would be enough with {memory} for each"
    )


def _by_sizes(found: Shares) -> str:
    return ", ".join(f"{in_words(found.of_worker(size))} of {size}" for size in SIZES)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _tables(tables: Sequence[TableShare], console: Console) -> None:
    console.print(
        "tables that a step touches by row alone, so that each worker could hold some rows (--shard-tables):"
    )
    for table in tables[:TABLES]:
        slots = f" with {_counted(table.slots, 'slot')}" if table.slots else ""
        parts = f" in {table.parts} parts" if table.parts > 1 else ""
        console.print(
            f"  {clean(table.name)}: {table.rows} rows{parts}, {in_words(table.size_bytes)}{slots}"
        )
    if len(tables) > TABLES:
        rest = sum(table.size_bytes for table in tables[TABLES:])
        console.print(f"  and {len(tables) - TABLES} more, {in_words(rest)}")


def _wholes(wholes: Sequence[NoTable], console: Console) -> None:
    for one in wholes[:TABLES]:
        if one.size_bytes >= WORTH_BYTES:
            console.print(
                f"  not {clean(one.name)}, {in_words(one.size_bytes)}: {clean(one.node)} {clean(one.why)}"
            )
