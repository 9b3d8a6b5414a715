"""What does a deployment on Kubernetes consist of, before it is YAML?

Rule: one frozen `Deployment` holds every choice, and `launch.render.overlays` changes it. The run's
own configuration is inside it: the worker groups follow from its elasticity, so that the autoscaler's limits and
``workers.min`` / ``workers.max`` can't disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from launch.flags import merged
from orchestrator.config import RunConfig, parse_config

RAY_VERSION = "2.60.0"
IMAGE = "tfresume:0.1.0"
GIB = 1024**3
"""Bytes."""
DEFAULT_WORKER_BYTES = 8 * GIB
RAY_MEMORY_SHARE = 0.65
"""Of a Pod's memory, Ray offers at most this share to workers: 30 % goes to its object store, and
its own processes are there first.
"""

Storage = Literal["any", "gcs", "s3", "azure", "pvc"]
Spot = Literal["", "gke", "eks", "aks"]
Kind = Literal["job", "cluster"]
DATA_PATH = "/data"
"""Where a claim is mounted, unless told otherwise."""


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
    spot: Spot = ""
    """Whose spot nodes the workers stand on."""
    monitoring: bool = False
    run: Mapping[str, Any] = Field(default_factory=dict)
    """The keys of the run's configuration, as far as they are of the run itself."""
    sizing: Mapping[str, Any] = Field(default_factory=dict)
    """Those that follow from the kind of machine."""
    riding: Mapping[str, Any] = Field(default_factory=dict)
    """Those that follow from machines that are taken away; they beat ``sizing``."""
    code: Mapping[str, str] = Field(default_factory=dict)
    """File name to text of the user's own modules, which travel as a ConfigMap."""

    identity: str = ""
    """What gives the Pods their rights: a Google service account, a role's ARN, a client id."""
    region: str = ""
    account: str = ""
    """Of Azure's storage."""
    gpu_type: str = ""
    node_selector: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the workers' nodes."""
    priority_class: str = ""
    storage_class: str = ""
    claim: str = ""
    """A claim that is there; none: one is made."""
    claim_gib: int = 100
    data_path: str = DATA_PATH
    queue: str = ""
    """Kueue's local queue; none: not queued."""

    @property
    def settings(self) -> dict[str, Any]:
        """All keys of the run's configuration, as the files in the ConfigMap give them together."""
        return merged(merged(self.run, self.sizing), self.riding)

    @property
    def config(self) -> RunConfig:
        """The run that the manifests start.

        Raises:
            ConfigError: naming every wrong key.
        """
        return parse_config(self.settings)

    @property
    def groups(self) -> tuple[WorkerGroup, WorkerGroup]:
        """Where workers stand, and where standbys do that have to stand elsewhere.

        Both are there whatever was asked for, so that each overlay changes fields of its own and
        they combine.
        """
        workers = self.config.workers
        # A standby for a GPU holds none and takes the lost rank's: it has to wait in the same Pod.
        # Spot capacity goes all at once: what shall take over stands elsewhere.
        apart = workers.standby if self.spot or not self.gpu else 0
        main = WorkerGroup(
            name="workers",
            replicas=workers.count,
            smallest=workers.smallest,
            largest=workers.largest,
            shape=self._shape(),
            spot=bool(self.spot),
            priority=10,
        )
        standby = WorkerGroup(
            name="standby",
            replicas=apart,
            smallest=apart,
            largest=apart,
            shape=self._shape(),
        )
        return main, standby

    def _shape(self) -> Shape:
        workers = self.config.workers
        processes = 2 if self.gpu and workers.standby else 1
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
        "source": "gs://BUCKET/run7",
        "output": "gs://BUCKET/run7-resumed",
        "until_step": 20000,
        "address": "auto",
        "save_secs": 600,
        "wait": True,
    },
    sizing={"workers": {"count": 2, "standby": 1, "cpus": 2, "memory_bytes": 4 * GIB}},
)
"""What ``k8s/base`` renders: two workers and a standby, on any cluster."""
