"""Under which names does Prometheus see what the driver measures?"""

from __future__ import annotations

from orchestrator.driver.measurements import METERS


def exported(name: str) -> str:
    """The name under which Prometheus sees a meter: Ray's prefix, and for counters the ending that
    its exporter adds.
    """
    return f"ray_{name}" + ("_total" if METERS[name].kind == "counter" else "")
