"""A save has got further, or has come to nothing: what changes?

Rule: an answer that isn't about the save under way is too late and changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

import immutables

from orchestrator.decide import save_under_way
from orchestrator.decide.events import Committed, SaveChecked, SaveFailed, SaveWritten
from orchestrator.decide.save_policy import InFlight, SaveLog
from orchestrator.decide.turn import Turn


def _is_under_way(turn: Turn, event: SaveWritten | SaveChecked | SaveFailed) -> bool:
    flight = turn.run.saves.in_flight
    # A graph's own counter may have stepped over the number that was agreed on, or stood still
    # until the position came, on all ranks alike
    return (
        flight is not None
        and flight.generation == event.generation
        and flight.is_reached(event.step, event.position)
    )


def on_written(turn: Turn, event: SaveWritten) -> None:
    """The writer's files are in the store."""
    log = turn.run.saves
    flight = log.in_flight
    if flight is None or not _is_under_way(turn, event) or event.worker != flight.writer:
        return
    if not _is_due(flight, event.part.save if event.part else None, log.agreed):
        return
    early = event.step < flight.step
    turn.set(
        saves=replace(
            log,
            in_flight=replace(flight, step=event.step, position=event.position),
            last_step=event.step if early else max(log.last_step, event.step),
        ),
        written=event,
    )
    _has_told(turn, event)


def on_checked(turn: Turn, event: SaveChecked) -> None:
    """Another rank's checksums, and its part."""
    log = turn.run.saves
    flight = log.in_flight
    if flight is None or not _is_under_way(turn, event):
        return
    if not flight.parts or _is_due(flight, event.save, log.agreed):
        _has_told(turn, event)


def _is_due(flight: InFlight, told: int | None, agreed: int) -> bool:
    """Whether what is told with a part of save ``told`` is of the very one under way, the last that
    was ``agreed``. One that a single rank writes has no parts: what is told with one is of a save
    of that step that was lost, and lists no file.
    """
    return told == agreed and not flight.committing if flight.parts else told is None


def _has_told(turn: Turn, event: SaveWritten | SaveChecked) -> None:
    run, part = turn.run, event.part
    turn.set(
        digests=run.digests.set(event.worker, event.digests),
        expected=_without(run.expected, event.worker),
        parts=run.parts if part is None else run.parts.set(part.rank, part),
    )


def _without(expected: immutables.Map[str, None], worker: str) -> immutables.Map[str, None]:
    return expected.delete(worker) if worker in expected else expected


def on_save_failed(turn: Turn, event: SaveFailed) -> None:
    """It came to nothing, in the writer or at the commit; or a rank could not write its part."""
    log = turn.run.saves
    flight = log.in_flight
    if flight is None or not _is_under_way(turn, event):
        return
    if event.worker and event.save != log.agreed:
        return  # of a save of that step that is over
    if flight.parts and event.worker:
        if not flight.committing:
            _refused(turn, flight, event)
        return
    save_under_way.fail(turn, event.detail, busy=flight.writer if event.busy else "")


def _refused(turn: Turn, flight: InFlight, event: SaveFailed) -> None:
    """The save has failed once the others have told too. That one was busy is told only where
    nothing was worse.
    """
    if not flight.refused or flight.busy:
        busy = event.worker if event.busy else ""
        flight = replace(flight, refused=event.detail, busy=busy)
    saves = replace(turn.run.saves, in_flight=flight)
    turn.set(saves=saves, expected=_without(turn.run.expected, event.worker))


def _committed(log: SaveLog, event: Committed, position: int | None) -> SaveLog:
    return replace(
        log,
        failed=0,
        committed=event.step,
        committed_position=position,
        changes=event.changes,
        before=log.full,
    )


def on_committed(turn: Turn, event: Committed) -> None:
    """A checkpoint exists."""
    log = turn.run.saves
    if log.in_flight is None:
        # Of a save that had failed: what it's told of now was in doubt till now
        if event.generation == turn.run.generation and event.step >= (log.committed or 0):
            position = event.position
            log = _committed(log, event, position)
            turn.set(saves=log, divergences=0)
        return
    # One that was in doubt may have been settled while an earlier generation's take-over waited
    # for the store: it may lie beyond where this one took over, and isn't what is under way. Nor is
    # one of changed rows, of which that may be told while a full save of their step is under way
    flight = log.in_flight
    told = (event.generation, event.step, event.changes)
    if (flight.generation, flight.step, bool(flight.over)) != told:
        return
    if flight.generation == turn.run.generation:
        log = replace(log, ground=log.agreed, links=log.links + 1)
    turn.set(
        saves=replace(_committed(log, event, flight.position), in_flight=None),
        written=None,
        expected=immutables.Map(),
        divergences=0,
    )
    if turn.run.rolled_back_from is not None and event.step > turn.run.rolled_back_from:
        turn.set(rolled_back_from=None)
