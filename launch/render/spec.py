"""What does a deployment on Kubernetes consist of, before it is YAML?

Rule: one frozen `Deployment` holds every choice; an overlay is a plain function from one Deployment
to another, so overlays compose (``gpu`` and ``spot`` and ``gcs``). The run's own configuration is
inside it: the worker groups follow from its elasticity, so that the autoscaler's limits and
``workers.min`` / ``workers.max`` can't disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.config import RunConfig, parse_config
from orchestrator.errors import ConfigError

RAY_VERSION = "2.60.0"
IMAGE = "tfresume:0.1.0"
GIB = 1024**3
"""Bytes."""
DEFAULT_WORKER_BYTES = 8 * GIB
RAY_MEMORY_SHARE = 0.65
"""Of a Pod's memory, Ray offers at most this share to workers: 30 % goes to its object store, and
its own processes are there first.
"""

Storage = Literal["any", "gcs", "s3"]
Kind = Literal["job", "cluster"]


class Shape(BaseModel):
    """What one Pod asks for. Requests equal limits, so that the scheduler's promise is the
    kernel's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: int
    memory_gib: int
    gpus: int = 0
    shm_gib: int = 2
    scratch_gib: int = 20


class WorkerGroup(BaseModel):
    """Pods of one shape. One Pod holds one worker process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    replicas: int
    smallest: int
    largest: int
    shape: Shape
    spot: bool = False
    priority: int = 0


class Deployment(BaseModel):
    """Everything that the manifests say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = "job"
    name: str = "tfresume"
    namespace: str = "train"
    image: str = IMAGE
    ray_version: str = RAY_VERSION
    storage: Storage = "any"
    gpu: bool = False
    spot: bool = False
    run: Mapping[str, Any] = Field(default_factory=dict)
    """The keys of the run's configuration file."""

    @property
    def config(self) -> RunConfig:
        """The run that the manifests start.

        Raises:
            ConfigError: naming every wrong key.
        """
        return parse_config(dict(self.run))

    @property
    def groups(self) -> tuple[WorkerGroup, ...]:
        """The worker groups that hold this run's workers and standbys."""
        workers = self.config.workers
        # A standby for a GPU holds none and takes the lost rank's: it has to wait in the same Pod.
        beside = workers.standby if self.gpu and not self.spot else 0
        extra = 0 if self.gpu or self.spot else workers.standby
        shape = self._shape(processes=2 if beside else 1)
        place = "spot" if self.spot else "workers"
        main = WorkerGroup(
            name=("gpu-" if self.gpu else "cpu-") + place,
            replicas=workers.count + extra,
            smallest=workers.smallest + extra,
            largest=workers.largest + extra,
            shape=shape,
            spot=self.spot,
            priority=10,
        )
        if not self.spot or not workers.standby:
            return (main,)
        # Spot capacity goes all at once; what shall take over stands elsewhere.
        standby = WorkerGroup(
            name="standby-ondemand",
            replicas=workers.standby,
            smallest=workers.standby,
            largest=workers.standby,
            shape=shape,
        )
        return (main, standby)

    def _shape(self, *, processes: int) -> Shape:
        workers = self.config.workers
        memory = (workers.memory_bytes or DEFAULT_WORKER_BYTES) * processes
        return Shape(
            # In a long-lived cluster the driver runs on a worker node, so that it survives the
            # head.
            cpus=math.ceil(workers.cpus * processes) + (1 if self.kind == "cluster" else 0),
            memory_gib=math.ceil(memory / RAY_MEMORY_SHARE / GIB),
            gpus=math.ceil(workers.gpus) if self.gpu else 0,
            shm_gib=8 if self.gpu else 2,
            scratch_gib=100 if self.gpu else 20,
        )


BASE = Deployment(
    run={
        "source": "file:///data/run7",
        "output": "file:///data/run7-resumed",
        "until_step": 20000,
        "address": "auto",
        "workers": {"count": 2, "standby": 1, "cpus": 2, "memory_bytes": 4 * GIB},
        "save_secs": 600,
        "wait": True,
    }
)
"""What ``k8s/base`` renders: two workers and a standby, on any cluster."""


def with_run(deployment: Deployment, **values: Any) -> Deployment:
    """The deployment with some keys of its run replaced; ``workers`` is merged."""
    run = dict(deployment.run)
    for name, value in values.items():
        below = run.get(name)
        run[name] = (
            {**below, **value}
            if isinstance(below, Mapping) and isinstance(value, Mapping)
            else value
        )
    return deployment.model_copy(update={"run": run})


def _cpu(deployment: Deployment) -> Deployment:
    return with_run(
        deployment,
        workers={"count": 4, "min": 2, "max": 8, "standby": 1, "cpus": 4},
        exchange="host",
    )


def _gpu(deployment: Deployment) -> Deployment:
    deployment = with_run(
        deployment,
        workers={
            "count": 4,
            "min": 2,
            "max": 4,
            "standby": 1,
            "cpus": 4,
            "gpus": 1,
            "memory_bytes": 16 * GIB,
        },
        exchange="nccl",
    )
    return deployment.model_copy(update={"gpu": True, "image": deployment.image + "-gpu"})


def _spot(deployment: Deployment) -> Deployment:
    deployment = with_run(
        deployment,
        workers={"count": 4, "min": 1, "max": 8, "standby": 2},
        save_secs=180,
        wait_s=21600,
        max_losses_per_hour=120,
    )
    return deployment.model_copy(update={"spot": True})


def _gcs(deployment: Deployment) -> Deployment:
    deployment = with_run(deployment, source="gs://BUCKET/run7", output="gs://BUCKET/run7-resumed")
    return deployment.model_copy(update={"storage": "gcs"})


def _s3(deployment: Deployment) -> Deployment:
    deployment = with_run(deployment, source="s3://BUCKET/run7", output="s3://BUCKET/run7-resumed")
    return deployment.model_copy(update={"storage": "s3"})


OVERLAYS: Mapping[str, Callable[[Deployment], Deployment]] = {
    "cpu": _cpu,
    "gpu": _gpu,
    "spot": _spot,
    "gcs": _gcs,
    "s3": _s3,
}


def with_overlays(deployment: Deployment, names: tuple[str, ...]) -> Deployment:
    """The deployment with the named overlays applied in order.

    Raises:
        ConfigError: an overlay that doesn't exist, or two that exclude each other.
    """
    for name in names:
        if name not in OVERLAYS:
            raise ConfigError(
                f"there is no overlay {name!r}", remedy="Choose from " + ", ".join(OVERLAYS)
            )
    for pair in (("cpu", "gpu"), ("gcs", "s3")):
        if set(pair) <= set(names):
            raise ConfigError(
                f"the overlays {pair[0]} and {pair[1]} exclude each other",
                remedy="Name one of them",
            )
    for name in names:
        deployment = OVERLAYS[name](deployment)
    return deployment
