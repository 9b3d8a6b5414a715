"""Of what is somebody told who doesn't look, and in which words?

Rule: of each incident once it's over, and of the end; a plain function from a journal event to what
is posted. Nothing in it holds a credential, since it leaves the cluster.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from orchestrator.config_sections import SLACK_HOSTS
from orchestrator.decide.incident import budget_told
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.run_events import IncidentOver, RunEnded
from orchestrator.next_commands import logs_command
from orchestrator.redaction import redacted_data, secrets_in


def notice(event: JournalEvent, run: str) -> dict[str, Any] | None:
    """What is posted of an event; None where it's nobody's concern.

    Args:
        run: the output's URL, as it may be shown.

    Returns:
        ``run``, ``event`` (the journal's word), ``text`` (one line for people), ``logs`` (a
        command) and ``record`` (the journal's own).
    """
    match event:
        case IncidentOver():
            text = _incident_text(event)
        case RunEnded():
            where = "" if event.step is None else f" at step {event.step}"
            text = f"{event.outcome}{where}" + (f": {event.reason}" if event.reason else "")
        case _:
            return None
    worker = event.worker if isinstance(event, IncidentOver) else ""
    told: dict[str, Any] = {
        "run": run,
        "event": event.word,
        "text": f"tfresume {run}: {text}",
        "logs": logs_command(run, worker),
        "record": event.record(),
    }
    return dict(redacted_data(told, secrets_in(os.environ)))


def _incident_text(event: IncidentOver) -> str:
    who = "" if event.rank is None else f" of rank {event.rank}"
    where = f" on {event.node}" if event.node else ""
    why = f" ({event.reason})" if event.reason else ""
    back = (
        "training didn't go on"
        if event.recovered_s is None
        else f"training went on after {event.recovered_s:.3g} s, {event.steps_redone} steps redone"
    )
    told = budget_told(event.kind, event.losses, event.losses_allowed)
    budget = f"; {told}" if told else ""
    return f"incident: {event.kind}{who}{where}{why}; {back}{budget}"


def body(told: Mapping[str, Any], url: str) -> Mapping[str, Any]:
    """A notice as the webhook at ``url`` wants it: Slack takes a text alone."""
    if urlsplit(url).hostname not in SLACK_HOSTS:
        return told
    return {"text": f"{told['text']}\n`{told['logs']}`"}
