"""Which ready-made choices are there, and which of them exclude each other?

Rule: an overlay is a plain function from one `Deployment` to another that touches fields of its own,
so overlays combine, here and as kustomize components. They are applied in the order of `OVERLAYS`,
however they were named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch.render.spec import GIB, Deployment, Spot
from orchestrator.errors import ConfigError

Overlay = Callable[[Deployment], Deployment]


def _changed(deployment: Deployment, **fields: Any) -> Deployment:
    return deployment.model_copy(update=fields)


def _cpu(deployment: Deployment) -> Deployment:
    workers = {"count": 4, "min": 2, "max": 8, "standby": 1, "cpus": 4, "memory_bytes": 4 * GIB}
    return _changed(deployment, sizing={"workers": workers, "exchange": "host"})


def _gpu(deployment: Deployment) -> Deployment:
    workers = {
        "count": 4,
        "min": 2,
        "max": 4,
        "standby": 1,
        "cpus": 4,
        "gpus": 1,
        "memory_bytes": 16 * GIB,
    }
    return _changed(
        deployment,
        gpu=True,
        # A digest names one image, whatever is in it
        image=deployment.image + ("" if "@" in deployment.image else "-gpu"),
        sizing={"workers": workers, "exchange": "host"},  # nccl was never run on two GPUs
    )


def _spot(cloud: Spot) -> Overlay:
    riding = {
        "workers": {"count": 4, "min": 1, "max": 8, "standby": 2},
        "save_secs": 180,
        "wait_s": 21600,
        "max_losses_per_hour": 120,
    }
    return lambda deployment: _changed(deployment, spot=cloud, riding=riding)


def _gcs(deployment: Deployment) -> Deployment:
    return _stored(
        deployment,
        "gs://BUCKET/run7",
        storage="gcs",
        identity="tfresume@PROJECT.iam.gserviceaccount.com",
    )


def _s3(deployment: Deployment) -> Deployment:
    role = "arn:aws:iam::ACCOUNT:role/tfresume"
    return _stored(deployment, "s3://BUCKET/run7", storage="s3", identity=role, region="REGION")


def _azure(deployment: Deployment) -> Deployment:
    return _stored(
        deployment, "az://CONTAINER/run7", storage="azure", identity="CLIENT_ID", account="ACCOUNT"
    )


def _pvc(deployment: Deployment) -> Deployment:
    return _stored(deployment, f"file://{deployment.data_path}/run7", storage="pvc")


def _stored(deployment: Deployment, source: str, **fields: str) -> Deployment:
    run = {**deployment.run, "source": source, "output": f"{source}-resumed"}
    return _changed(deployment, run=run, **fields)


def _kueue(deployment: Deployment) -> Deployment:
    return _changed(deployment, queue="QUEUE")


def _monitoring(deployment: Deployment) -> Deployment:
    return _changed(deployment, monitoring=True)


OVERLAYS: Mapping[str, Overlay] = {
    "cpu": _cpu,
    "gpu": _gpu,
    "spot": _spot("gke"),
    "spot-eks": _spot("eks"),
    "spot-aks": _spot("aks"),
    "gcs": _gcs,
    "s3": _s3,
    "azure": _azure,
    "pvc": _pvc,
    "kueue": _kueue,
    "monitoring": _monitoring,
}
EXCLUDE = (
    frozenset(("cpu", "gpu")),
    frozenset(("spot", "spot-eks", "spot-aks")),
    frozenset(("gcs", "s3", "azure", "pvc")),
)
"""Of each of these, one at most."""
OTHER_CLOUD = {"spot": ("s3", "azure"), "spot-eks": ("gcs", "azure"), "spot-aks": ("gcs", "s3")}
"""Whose spot nodes don't go with whose storage: its rights come from the nodes' cloud."""
_SPOT_OF = {"gcs": "spot", "s3": "spot-eks", "azure": "spot-aks"}


def refuse_combination(names: Sequence[str]) -> None:
    """Refuse overlays that don't exist or don't go together.

    Raises:
        ConfigError: names them.
    """
    for name in names:
        if name not in OVERLAYS:
            raise ConfigError(
                f"there is no overlay {name!r}", remedy="Choose from " + ", ".join(OVERLAYS)
            )
    for group in EXCLUDE:
        both = [name for name in OVERLAYS if name in group and name in names]
        if len(both) > 1:
            raise ConfigError(
                f"the overlays {both[0]} and {both[1]} exclude each other",
                remedy="Name one of them",
            )
    for spot, others in OTHER_CLOUD.items():
        wrong = [name for name in others if name in names]
        if spot in names and wrong:
            raise ConfigError(
                f"the overlay {spot} is for another cloud's nodes than {wrong[0]} gives rights to",
                remedy=f"Name {_SPOT_OF[wrong[0]]} beside {wrong[0]}",
            )


def with_overlays(deployment: Deployment, names: Sequence[str]) -> Deployment:
    """The deployment with the named overlays applied.

    Raises:
        ConfigError: an overlay that doesn't exist, or two that don't go together.
    """
    refuse_combination(names)
    for name, overlay in OVERLAYS.items():
        if name in names:
            deployment = overlay(deployment)
    return deployment
