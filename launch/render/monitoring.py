"""Which objects let a cluster's own Prometheus and Grafana see a run?

Rule: for Prometheus' operator (PodMonitor, PrometheusRule) and for Grafana's sidecar (a ConfigMap
with its label). Ray exports on each node, so Pods are scraped, not a Service.
"""

from __future__ import annotations

import json

from launch.render.alerts import rule_groups
from launch.render.dashboard import dashboard
from launch.render.pods import Manifest, labels, metadata_of
from launch.render.spec import Deployment

OPERATOR_API = "monitoring.coreos.com/v1"


def monitoring_manifests(deployment: Deployment) -> list[Manifest]:
    """A PodMonitor, a PrometheusRule and the dashboard's ConfigMap."""
    return [_pod_monitor(deployment), _rules(deployment), _dashboard(deployment)]


def _pod_monitor(deployment: Deployment) -> Manifest:
    return {
        "apiVersion": OPERATOR_API,
        "kind": "PodMonitor",
        "metadata": metadata_of(deployment),
        "spec": {
            "selector": {"matchLabels": labels(deployment)},
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics", "interval": "15s"}],
        },
    }


def _rules(deployment: Deployment) -> Manifest:
    return {
        "apiVersion": OPERATOR_API,
        "kind": "PrometheusRule",
        "metadata": metadata_of(deployment),
        "spec": rule_groups(),
    }


def _dashboard(deployment: Deployment) -> Manifest:
    metadata = metadata_of(deployment, "-dashboard")
    metadata["labels"] = {**metadata["labels"], "grafana_dashboard": "1"}
    page = json.dumps(dashboard(), indent=1) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"tfresume.json": page},
    }
