"""What does Grafana show of a run?

Rule: one dashboard with a variable for the run; each panel answers one question and is asked ``by
(run)``, so that it goes on through a driver's death. Names and meanings are those of the driver's
own meters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from launch.render.metric_names import exported
from orchestrator.driver.measurements import METERS

SCHEMA_VERSION = 39
"""Of Grafana 10.4; newer ones migrate it by themselves when they load it."""
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS, _PER_ROW, _HEIGHT = 24, 3, 8
"""Grafana's grid has 24 columns."""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        queries: legend and PromQL.
        unit: in Grafana's own name.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    description: str = ""


def _now(meter: str) -> tuple[str, str]:
    name = exported(meter)
    return meter.removeprefix("tfresume_"), f'max by (run) ({name}{{run=~"$run"}})'


def _by(label: str, meter: str) -> tuple[str, str]:
    """The slowest rank's value, by a label of the meter."""
    query = f'max by ({label}) ({exported(meter)}{{run=~"$run"}})'
    return f"{{{{{label}}}}}", query


def _rate(meter: str, label: str) -> tuple[str, str]:
    query = f'sum by ({label}) (increase({exported(meter)}{{run=~"$run"}}[$__rate_interval]))'
    return f"{{{{{label}}}}}", query


def _quantile(share: float, meter: str) -> tuple[str, str]:
    bucket = f'sum by (le) (increase({exported(meter)}_bucket{{run=~"$run"}}[$__range]))'
    return f"{share:.0%}", f"histogram_quantile({share}, {bucket})"


PANELS = (
    Panel("Steps", (_now("tfresume_step"), _now("tfresume_until_step"))),
    Panel("Steps per second", (_now("tfresume_steps_per_second"),)),
    Panel("Loss", (_now("tfresume_loss"),), description=METERS["tfresume_loss"].meaning),
    Panel("Workers", (_now("tfresume_world_size"),)),
    Panel(
        "Generation and driver",
        (_now("tfresume_generation"), _now("tfresume_attempt"), _now("tfresume_ended_attempt")),
    ),
    Panel("Incidents", (_rate("tfresume_incidents", "kind"),)),
    Panel(
        "Steps not yet in a checkpoint",
        (("steps", f"{_now('tfresume_step')[1]} - {_now('tfresume_checkpoint_step')[1]}"),),
    ),
    Panel("Checkpoint", (_now("tfresume_checkpoint_step"),)),
    Panel("Checkpoint's size", (_now("tfresume_checkpoint_bytes"),), "bytes"),
    Panel("Saves", (_rate("tfresume_saves", "state"),)),
    Panel(
        "Training stands still for a save",
        (
            _quantile(0.5, "tfresume_save_stall_seconds"),
            _quantile(0.95, "tfresume_save_stall_seconds"),
        ),
        "s",
    ),
    Panel(
        "First symptom to first useful step",
        (_quantile(0.5, "tfresume_recovery_seconds"), _quantile(0.95, "tfresume_recovery_seconds")),
        "s",
    ),
    Panel(
        "Steps done twice",
        (("redone", f'max by (run) ({exported("tfresume_steps_redone")}{{run=~"$run"}})'),),
    ),
    Panel("What a step's time goes to", (_by("part", "tfresume_step_part_seconds"),), "s"),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "tfresume",
        "title": "tfresume",
        "tags": ["tfresume"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": _variables()},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _variables() -> list[dict[str, Any]]:
    runs = f"label_values({exported('tfresume_step')}, run)"
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "run",
            "label": "Run",
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": runs, "refId": "run"},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "current": {"text": ["All"], "value": ["$__all"]},
        },
    ]


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    width = _COLUMNS // _PER_ROW
    row, column = divmod(number, _PER_ROW)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": width, "x": column * width, "y": row * _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "none"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": expr,
                "legendFormat": legend,
            }
            for index, (legend, expr) in enumerate(panel.queries)
        ],
    }
