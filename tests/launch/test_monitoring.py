"""Do dashboard and alerts ask for what a driver exports, do they mean what the runbook says, and do
they hold through a driver's death?
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from launch.render.alerts import ALERTS, RUNBOOK, rule_groups
from launch.render.dashboard import PANELS, dashboard
from launch.render.kustomize import monitoring
from launch.render.metric_names import exported, series
from orchestrator.driver.measurements import METERS

ROOT = Path(__file__).resolve().parents[2]
PROMTOOL = shutil.which("promtool")
QUERIES = [alert.expr for alert in ALERTS] + [
    query for panel in PANELS for _, query in panel.queries
]
OF_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True)
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool isn't on this machine's PATH (Debian: prometheus)"
)


def test_exported_names_end_as_prometheus_wants_them() -> None:
    assert exported("tfresume_step") == "ray_tfresume_step"
    assert exported("tfresume_saves") == "ray_tfresume_saves_total"
    assert {"ray_tfresume_recovery_seconds_bucket", "ray_tfresume_incidents_total"} <= series()


@pytest.mark.parametrize("query", QUERIES)
def test_query_asks_for_what_is_exported_alone(query: str) -> None:
    named = set(re.findall(r"\bray_\w+", query))
    assert named
    assert named <= series()


def test_every_meter_is_on_the_dashboard() -> None:
    shown = " ".join(query for panel in PANELS for _, query in panel.queries)
    assert [name for name in METERS if exported(name) not in shown] == []


def test_dashboard_is_what_grafana_imports() -> None:
    page: dict[str, Any] = json.loads(monitoring()["monitoring/dashboard.json"])
    assert page == dashboard()
    assert {"uid", "title", "panels", "templating", "time", "schemaVersion"} <= set(page)
    panels = page["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [(place["x"] + x, place["y"]) for place in places for x in range(place["w"])]
    assert len(cells) == len(set(cells)), "panels lie over each other"
    assert all(x < 24 for x, _ in cells)
    names = {variable["name"] for variable in page["templating"]["list"]}
    text = json.dumps(panels)
    assert set(re.findall(r"\$\{?([a-z]+)\b", text)) <= names
    for panel in panels:
        assert panel["type"] == "timeseries"
        assert [target["refId"] for target in panel["targets"]] == [*"ABC"[: len(panel["targets"])]]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def faults_in(page: dict[str, Any]) -> list[str]:
    """Where a dashboard isn't what Grafana's own schema says, as its SDK holds it: names that it
    doesn't know, and values of another type.
    """
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    read = Dashboard.from_json(page)
    return [*_lost(page, json.loads(JSONEncoder().encode(read))), *_ill_typed(read)]


def _lost(given: Any, back: Any, place: str = "") -> Iterator[str]:
    if isinstance(given, dict) and isinstance(back, dict):
        for name, value in given.items():
            yield from _lost(value, back.get(name, "unknown"), f"{place}/{name}")
    elif isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        for number, (value, other) in enumerate(zip(given, back, strict=True)):
            yield from _lost(value, other, f"{place}/{number}")
    elif given != back:
        yield f"{place}: {back}"


def _ill_typed(value: Any, place: str = "") -> Iterator[str]:
    """An SDK's object says the types of its fields and holds whatever it's given."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _ill_typed(item, f"{place}/{number}")
    elif type(value).__module__.startswith("grafana_foundation_sdk.models"):
        if isinstance(value, Enum):
            return
        hints = get_type_hints(type(value))
        for name, held in vars(value).items():
            kind: TypeAdapter[Any] = TypeAdapter(hints.get(name, Any), config=OF_ANY_CLASS)
            try:
                fits = kind.validate_python(held) == held
            except ValidationError:
                fits = False
            if not fits:
                yield f"{place}/{name}: {held!r}"
            yield from _ill_typed(held, f"{place}/{name}")


def test_dashboard_is_what_grafanas_own_schema_says() -> None:
    assert faults_in(dashboard()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("panels", 0, "fieldConfig", "defaults", "unitt"), "s"),
        (("panels", 0, "fieldConfig", "defaults", "unit"), 5),
        (("panels", 1, "options", "tooltip", "mode"), "several"),
        (("panels", 1, "gridPos", "w"), "wide"),
        (("panels", 2, "targets", 0, "expression"), "up"),
        (("templating", "list", 0, "definition"), "up"),
        (("schemaVersion",), "39"),
    ],
)
def test_dashboard_that_grafanas_schema_does_not_allow_is_found(
    place: tuple[Any, ...], value: Any
) -> None:
    page = json.loads(json.dumps(dashboard()))
    *way, name = place
    there = page
    for part in way:
        there = there[part]
    there[name] = value
    found = [fault.replace("_", "").lower() for fault in faults_in(page)]
    assert any(name.lower() in fault for fault in found)


def test_every_alert_has_its_line_in_the_runbook() -> None:
    page, _, anchor = RUNBOOK.partition("#")
    section = (ROOT / page).read_text().partition(f"## {anchor.title()}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| `(Tfresume\w+)` \| .{20,} \| .{20,} \|$", section, re.MULTILINE)
    assert lines == [alert.name for alert in ALERTS]


RUN = {"run": "gs://b/r", "WorkerId": "1"}


def line(name: str, values: str, **labels: str) -> dict[str, str]:
    shown = ",".join(f'{key}="{value}"' for key, value in {**RUN, **labels}.items())
    return {"series": f"{name}{{{shown}}}", "values": values}


ALIVE = line("ray_tfresume_attempt", "1x600")
STEPS = line("ray_tfresume_step", "0+10x600")
LOST = {"state": "failed"}
CASES: dict[str, tuple[list[dict[str, str]], dict[int, set[str]]]] = {
    "a run that does well": (
        [
            ALIVE,
            STEPS,
            line("ray_tfresume_checkpoint_step", "0+10x600"),
            line("ray_tfresume_saves_total", "0+1x600", state="committed"),
            line("ray_tfresume_incidents_total", "0+1x600", kind="preempted"),
            line("ray_tfresume_steps_per_second", "20x600"),
            line("ray_tfresume_world_size", "4x600"),
        ],
        {5: set(), 100: set(), 500: set()},
    ),
    "a step that stands still": (
        [ALIVE, line("ray_tfresume_step", "0+10x20 200x100")],
        {10: set(), 30: set(), 45: {"TfresumeNoProgress"}},
    ),
    "a driver that is gone": (
        [
            line("ray_tfresume_ended_attempt", "1x5 _x100"),
            line("ray_tfresume_attempt", "1x5 _x100"),
            line("ray_tfresume_attempt", "_x6 2x14 _x100", WorkerId="2"),
        ],
        {15: set(), 40: {"TfresumeDriverGone"}},
    ),
    "a driver that is gone, and the next one": (
        [
            line("ray_tfresume_attempt", "1x20 _x100"),
            line("ray_tfresume_attempt", "_x22 2x100", WorkerId="2"),
            line("ray_tfresume_saves_total", "5x120", **LOST),
            line("ray_tfresume_saves_total", "_x50 5x80", **LOST, WorkerId="2"),
        ],
        {40: set(), 60: set()},
    ),
    "a run that ended in order": (
        [line("ray_tfresume_attempt", "2x20 _x9"), line("ray_tfresume_ended_attempt", "_x20 2x3")],
        {40: set()},
    ),
    "checkpoints that came to an end": (
        [ALIVE, STEPS, line("ray_tfresume_checkpoint_step", "0+10x30 300x200")],
        {60: set(), 120: {"TfresumeNoCheckpoint"}},
    ),
    "no checkpoint at all": ([ALIVE, STEPS], {45: set(), 80: {"TfresumeNoCheckpoint"}}),
    "saves that fail, from the first on": (
        [line("ray_tfresume_saves_total", "_x20 2x100", **LOST)],
        {15: set(), 25: {"TfresumeSavesFail"}, 60: set()},
    ),
    "incidents": (
        [line("ray_tfresume_incidents_total", "0x60 12x200", kind="died")],
        {50: set(), 65: {"TfresumeManyIncidents"}, 130: set()},
    ),
    "drivers one after the other": (
        [line("ray_tfresume_attempt", "1x10 2x5 3x5 4x100")],
        {15: set(), 30: {"TfresumeDriverRestarts"}, 90: set()},
    ),
    "fewer workers": (
        [line("ray_tfresume_world_size", "4x30 3x300")],
        {40: set(), 70: {"TfresumeSmallGroup"}},
    ),
    "slower steps": (
        [line("ray_tfresume_steps_per_second", "20x200 8x200")],
        {205: set(), 240: {"TfresumeSlow"}},
    ),
}


@needs_promtool
@pytest.mark.slow
def test_alerts_fire_when_they_should_and_not_when_a_driver_follows_another(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    (tmp_path / "alerts.yaml").write_text(monitoring()["monitoring/alerts.yaml"])
    tests = [
        {
            "interval": "1m",
            "name": name,
            "input_series": told,
            "promql_expr_test": [
                {
                    "expr": f'ALERTS{{alertstate="firing",alertname="{alert.name}"}}',
                    "eval_time": f"{minute}m",
                    "exp_samples": [
                        {
                            "labels": f'ALERTS{{alertname="{alert.name}",alertstate="firing",'
                            f'run="{RUN["run"]}",severity="{alert.severity}"}}',
                            "value": 1,
                        }
                    ]
                    if alert.name in firing
                    else [],
                }
                for minute, firing in expected.items()
                for alert in ALERTS
            ],
        }
        for name, (told, expected) in CASES.items()
    ]
    fired = {
        name for _, expected in CASES.values() for names in expected.values() for name in names
    }
    assert fired == {alert.name for alert in ALERTS}
    document = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "tests.yaml"]):
        done = subprocess.run(
            [PROMTOOL, *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_queries_are_promql(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    plain = [
        query.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$run", ".*")
        for query in QUERIES
    ]
    rules = [{"record": f"x{number}", "expr": query} for number, query in enumerate(plain)]
    document = {"groups": [{"name": "x", "rules": rules}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [PROMTOOL, "check", "rules", "rules.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_rule_file_holds_every_alert() -> None:
    file = yaml.safe_load(monitoring()["monitoring/alerts.yaml"])
    assert file == rule_groups()
    assert [rule["alert"] for rule in file["groups"][0]["rules"]] == [item.name for item in ALERTS]
