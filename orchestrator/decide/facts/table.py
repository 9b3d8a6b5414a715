"""Which fact does an event tell?

Rule: every event has one handler, which changes the run and writes down what happened. What is to be
done about it is for the rules (``reconcile``); no fact imports one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.decide import events
from orchestrator.decide.facts import clock, ends, members, saves, store, workers
from orchestrator.decide.turn import Turn

HANDLERS: dict[type[Any], Callable[[Turn, Any], None]] = {
    events.Warm: workers.on_warm,
    events.Gone: workers.on_gone,
    events.Notice: workers.on_notice,
    events.Draining: workers.on_draining,
    events.Room: workers.on_room,
    events.Progress: members.on_progress,
    events.Held: members.on_held,
    events.Joined: members.on_joined,
    events.JoinFailed: members.on_join_failed,
    events.Found: store.on_found,
    events.SaveWritten: saves.on_written,
    events.SaveChecked: saves.on_checked,
    events.SaveFailed: saves.on_save_failed,
    events.Committed: saves.on_committed,
    events.StopAsked: ends.on_stop,
    events.UserFailed: ends.on_user_failed,
    events.DataEnded: ends.on_data_ended,
    events.Fenced: ends.on_fenced,
    events.Tick: clock.on_tick,
}
