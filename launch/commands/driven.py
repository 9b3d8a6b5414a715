"""What does a command say of a driver that it started again and again, and that died each time?

Rule: what nobody raised on purpose is no answer, and the driver is started again; the last word is
the command's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from launch.terminal import print_json, show_error
from orchestrator.errors import OrchestratorError, RecoveryExhausted

if TYPE_CHECKING:
    from orchestrator.decide.driver_restarts import End


def or_crashed(work: Callable[[], int]) -> int:
    """An error that nobody raised on purpose is no answer: the supervisor starts the driver again,
    and its workers go on meanwhile.
    """
    from orchestrator.decide.driver_restarts import CRASHED

    try:
        return work()
    except OrchestratorError:
        raise
    except Exception as error:  # noqa: BLE001 - shown in full
        show_error(error, as_json=False)
        return CRASHED


def tell_of_end(end: End) -> None:
    """The answer that whoever was killed can't give."""
    error = RecoveryExhausted(
        end.reason,
        remedy="Look for what kills it (memory, an operator); the same command goes on from here",
    )
    print_json({"status": "failed", "exit_code": end.code, "error": error.as_dict()})
