"""Under which name are a run's workers found, and ended?

Rule: the namespace follows from the output URL alone, so that a later driver, and ``tfresume
stop``, find what an earlier one left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import ray

from orchestrator.store.objects.url_spelling import one_protocol
from orchestrator.workers.placement import Placement


def namespace_of(output_url: str) -> str:
    """The Ray namespace of the run with this output."""
    one = one_protocol(output_url.rstrip("/"))
    return f"tfresume-{hashlib.sha256(one.encode()).hexdigest()[:16]}"


def living_workers(namespace: str) -> list[str]:
    """Names of the workers that live in ``namespace``. Needs a connected Ray."""
    return sorted(
        item["name"]
        for item in ray.util.list_named_actors(all_namespaces=True)
        if item["namespace"] == namespace
    )


def end_run(output_url: str) -> Mapping[str, int]:
    """Kill every worker of the run with this output and remove its placement groups; how many of
    each there were. Needs a connected Ray.
    """
    namespace = namespace_of(output_url)
    names = living_workers(namespace)
    for name in names:
        try:
            ray.kill(ray.get_actor(name, namespace=namespace), no_restart=True)
        except ValueError:
            continue
    return {"workers": len(names), "placement_groups": Placement.remove_all(namespace)}
