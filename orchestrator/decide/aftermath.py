"""What did a driver's death hide, and what follows from it?

Rule: a driver that died can't tell who died with it. The next one compares what the journal knows
with who answers: each missing worker is written down and paid for like any other loss, and the
group's disturbance becomes an incident that began when the journal fell silent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.decide import incidents, losses
from orchestrator.decide.events import Cause, Gone
from orchestrator.decide.run import Stage, Worker
from orchestrator.decide.timeline import Entry, names_in, number_of, sound
from orchestrator.decide.turn import Turn

REASON = "it was gone when this driver came"
_STEPPED = frozenset({"progress", "training", "adopted", "save_committed", "worker_lost"})


@dataclass(frozen=True)
class LeftBehind:
    """What a driver that didn't end in order had going.

    Attributes:
        members: identities by rank of its last generation, those known to be lost being taken out;
            ``standbys`` the other warm ones.
        world_size: of that generation.
        warm: the ``worker_warm`` event of each.
        loss: a member's loss that it had seen and whose incident it didn't live to close.
        highest: the last step that the journal knows to be finished, since the last incident.
        silent_s: seconds since its last word, by the drivers' wall clocks.
    """

    members: Mapping[str, int] = field(default_factory=dict)
    standbys: tuple[str, ...] = ()
    world_size: int = 0
    warm: Mapping[str, Entry] = field(default_factory=dict)
    loss: Entry | None = None
    highest: int = 0
    silent_s: float = 0.0


def left_behind(events: Sequence[Entry], now_unix_s: float) -> LeftBehind | None:
    """What the journal's last driver had going; None where it ended in order or had nobody that
    trained.
    """
    seats: list[str] = []
    warm: dict[str, Entry] = {}
    loss: Entry | None = None
    highest, trained, last_s = 0, False, now_unix_s
    for event in map(sound, events):
        last_s = number_of(event.get("at"), last_s)
        if event.get("event") in _STEPPED:
            highest = max(highest, int(event.get("step") or 0))
        match event.get("event"):
            case "finish":
                seats, warm, loss, highest, trained = [], {}, None, 0, False
            case "generation":
                seats = names_in(event.get("workers"))
            case "training":
                trained = True
            case "worker_warm":
                warm[str(event.get("worker"))] = event
            case "worker_lost" | "worker_released":
                warm.pop(str(event.get("worker")), None)
                loss = loss or (event if event.get("rank") is not None else None)
            case "incident":
                loss, highest = None, int(event.get("step") or 0)
    if not trained:
        return None
    members = {worker: rank for rank, worker in enumerate(seats) if worker in warm}
    standbys = tuple(worker for worker in warm if worker not in members)
    return LeftBehind(
        members, standbys, len(seats), warm, loss, highest, max(0.0, now_unix_s - last_s)
    )


def account(turn: Turn, left: LeftBehind | None, living: Collection[str]) -> None:
    """Write down and pay for those who died with the driver, and open the incident that it
    couldn't.
    """
    if left is None:
        return
    for worker in left.standbys:
        if worker not in living:
            entry = left.warm[worker]
            turn.note("worker_lost", **_told(entry, worker, None), spared=True)
    lost = {worker: rank for worker, rank in left.members.items() if worker not in living}
    for worker, rank in lost.items():
        entry = left.warm[worker]
        turn.note("worker_lost", **_told(entry, worker, rank))
        gone = Worker(worker, Stage.MEMBER, turn.now_s, turn.now_s, node=str(entry.get("node", "")))
        incidents.open_incident(
            turn, Cause.DIED.value, gone, rank, f"{REASON}: the driver died as well"
        )
        losses.pay(turn, gone, Gone(worker, Cause.DIED), begun=False)
    if not lost and left.loss is not None:
        seen = left.loss
        gone = Worker(
            str(seen.get("worker")),
            Stage.MEMBER,
            turn.now_s,
            turn.now_s,
            node=str(seen.get("node", "")),
        )
        incidents.open_incident(
            turn, str(seen.get("cause", "died")), gone, seen["rank"], str(seen.get("reason", ""))
        )
    incident = turn.run.incident
    if incident is not None:
        highest = max(turn.run.highest, left.highest)
        began_s = turn.now_s - left.silent_s
        turn.set(
            incident=replace(
                incident,
                began_s=began_s,
                highest=highest,
                world_size=left.world_size or incident.world_size,
            ),
            highest=highest,
        )


def _told(entry: Entry, worker: str, rank: int | None) -> dict[str, Any]:
    return {
        "worker": worker,
        "rank": rank,
        "node": entry.get("node"),
        "pid": entry.get("pid"),
        "cause": Cause.DIED.value,
        "reason": REASON,
        "step": None,
        "phase": "no driver",
    }


def rolled_back(events: Sequence[Mapping[str, Any]]) -> tuple[int | None, int]:
    """What an earlier driver's journal says of roll-backs.

    Returns:
        The step that was rolled back from, None where a later one was committed since; and the last
        generation whose states don't count.
    """
    step: int | None = None
    generation = 0
    for event in events:
        if event.get("event") == "rolling_back" and isinstance(event.get("generation"), int):
            step, generation = event.get("step"), int(event["generation"])
        elif (
            event.get("event") == "save_committed"
            and step is not None
            and int(event.get("step", 0)) > step
        ):
            step = None
    return step, generation
