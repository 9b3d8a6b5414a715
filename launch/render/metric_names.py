"""Under which names does Prometheus see what a driver measures?

Rule: Ray's exporter puts its prefix before each, and its ending behind a counter's; a histogram
becomes three. Whatever names a metric for people (dashboard, alerts) asks here, so that no name is
written down that no driver exports.
"""

from __future__ import annotations

from orchestrator.driver.measurements import METERS

_HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")


def exported(name: str) -> str:
    """The name under which Prometheus sees a meter; of a histogram what its three series share.

    Raises:
        KeyError: there is no such meter.
    """
    return f"ray_{name}" + ("_total" if METERS[name].kind == "counter" else "")


def series() -> frozenset[str]:
    """Every name that Prometheus can be asked for."""
    found: set[str] = set()
    for name, meter in METERS.items():
        whole = exported(name)
        found |= (
            {whole + part for part in _HISTOGRAM_PARTS} if meter.kind == "histogram" else {whole}
        )
    return frozenset(found)
