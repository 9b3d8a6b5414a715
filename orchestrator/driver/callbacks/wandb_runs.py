"""How does a run stand in Weights & Biases?

Rule: one W&B run for one output, however many drivers it has: its id follows from the output's URL.
It's opened once a driver has the run. Project, directory and whether anything is sent are W&B's own variables' business
(``WANDB_PROJECT``, ``WANDB_DIR``, ``WANDB_MODE=offline``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from orchestrator.driver.callbacks.context import CallbackContext
from orchestrator.driver.callbacks.curves import Curves
from orchestrator.driver.observer import RunProgress
from orchestrator.journal.parsing import parse
from orchestrator.journal.run_events import IncidentOver, RunEnded

PROJECT = "tfresume"


class WandbRun:
    """An observer that logs to W&B. Raises ImportError where it isn't installed, and W&B's own errors
    where it takes no key of ours.
    """

    def __init__(self, context: CallbackContext) -> None:
        import wandb

        if wandb.setup().settings.mode == "online":
            wandb.login()  # a run that can't be told is refused here
        self._context, self._init = context, wandb.init
        # The run's own signals are the driver's
        self._settings = wandb.Settings(console="off", disable_git=True, silent=True)
        self._run: Any = None
        self._incidents = 0
        self._exit_code = 1
        self._curves = Curves()

    def past(self, incidents: int) -> None:
        """The run begins or goes on."""
        context = self._context
        self._run = self._init(
            id=context.ident,
            name=context.name,
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            resume="allow",
            config={"output": context.run, "source": context.source, **context.config},
            settings=self._settings,
        )
        self._incidents = incidents

    def event(self, record: Mapping[str, Any]) -> None:
        """Incidents and the end."""
        match parse(record):
            case IncidentOver() as incident:
                self._incidents += 1
                self._run.summary["incidents"] = self._incidents
                self._run.summary["last_incident"] = f"{incident.kind}: {incident.reason}"
            case RunEnded() as ended:
                self._exit_code = 1 if ended.outcome == "failed" else 0
                self._run.summary["reason"] = ended.reason

    def progress(self, progress: RunProgress) -> None:
        """The curves."""
        told = self._curves.due(progress)
        if told:
            self._run.log(told, step=progress.step)

    def close(self) -> None:
        """Send what is left."""
        if self._run is not None:
            self._run.finish(exit_code=self._exit_code)
