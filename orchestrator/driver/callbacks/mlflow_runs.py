"""How does a run stand in MLflow?

Rule: one MLflow run for one output, however many drivers it has: it's found by its tag, and made
once a driver has the run. Where it's kept, and in which experiment, MLflow's own variables say
(``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from orchestrator.driver.callbacks.context import CallbackContext
from orchestrator.driver.callbacks.curves import Curves
from orchestrator.driver.observer import RunProgress
from orchestrator.journal.parsing import parse
from orchestrator.journal.run_events import AttemptBegan, IncidentOver, RunEnded

EXPERIMENT = "tfresume"
OUTPUT_TAG = "tfresume.output"
_STATUS = {"done": "FINISHED", "end of data": "FINISHED", "stopped": "KILLED"}


class MlflowRun:
    """An observer that logs to MLflow. Raises ImportError where MLflow isn't installed, and MLflow's
    own errors where its server doesn't answer.
    """

    def __init__(self, context: CallbackContext) -> None:
        from mlflow import MlflowClient

        self._client: Any = MlflowClient()
        self._context = context
        self._name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        self._client.get_experiment_by_name(self._name)  # a run that can't be told is refused here
        self._run_id = ""
        self._incidents = 0
        self._curves = Curves()

    def past(self, incidents: int) -> None:
        """The run begins or goes on."""
        self._run_id = self._found()
        self._incidents = incidents

    def _found(self) -> str:
        """The run of this output, made where there is none."""
        client, context = self._client, self._context
        experiment = client.get_experiment_by_name(self._name)
        ident = experiment.experiment_id if experiment else client.create_experiment(self._name)
        wanted = f"tags.`{OUTPUT_TAG}.id` = '{context.ident}'"
        for run in client.search_runs([ident], wanted, max_results=1):
            return str(run.info.run_id)
        tags = {
            OUTPUT_TAG: context.run,
            f"{OUTPUT_TAG}.id": context.ident,
            "tfresume.source": context.source,
        }
        made = client.create_run(ident, tags=tags, run_name=context.name)
        for key, value in context.config.items():
            if value not in (None, "", [], {}):
                client.log_param(made.info.run_id, key, str(value)[:500])
        return str(made.info.run_id)

    def event(self, record: Mapping[str, Any]) -> None:
        """Attempts, incidents and the end."""
        match parse(record):
            case AttemptBegan(attempt=attempt):
                self._client.update_run(self._run_id, status="RUNNING")
                self._client.set_tag(self._run_id, "tfresume.attempt", str(attempt))
            case IncidentOver() as incident:
                self._incidents += 1
                step = incident.step or 0
                self._metric("incidents", self._incidents, step)
                self._metric("steps_redone", incident.steps_redone, step)
            case RunEnded() as ended:
                self._client.set_tag(self._run_id, "tfresume.reason", ended.reason)
                self._client.set_terminated(self._run_id, _STATUS.get(ended.outcome, "FAILED"))

    def progress(self, progress: RunProgress) -> None:
        """The curves."""
        for name, value in self._curves.due(progress).items():
            self._metric(name, value, progress.step)

    def _metric(self, name: str, value: float, step: int) -> None:
        self._client.log_metric(self._run_id, name, float(value), step=step)
