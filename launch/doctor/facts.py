"""What does one machine have to offer?

Rule: gathers, never judges. Everything is optional but the host's name: what can't be found out is
None or an error's text, and that is a finding too. Runs on every node of a cluster, so it imports
nothing heavy into the asking process: TensorFlow is asked in a child.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROBE_TIMEOUT_S = 120.0
"""Importing TensorFlow takes 3 s on a warm disk and a minute on a cold network one."""
PACKAGES = ("tfresume", "tensorflow", "ray", "protobuf", "numpy", "tensorboard", "fsspec")
BACKENDS = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}


@dataclass(frozen=True)
class NodeFacts:
    """One machine, as it sees itself. Sizes in bytes, times in seconds."""

    host: str
    node_id: str = ""
    python: str = ""
    packages: dict[str, str | None] = field(default_factory=dict)
    tensorflow_gpus: int | None = None
    tensorflow_cuda: str | None = None
    tensorflow_error: str = ""
    driver_gpus: int | None = None
    """GPUs that nvidia-smi lists; None where there is no nvidia-smi."""
    nccl: str | None = None
    cpus: int | None = None
    memory_free_bytes: int | None = None
    shm_free_bytes: int | None = None
    scratch_free_bytes: int | None = None
    backends: dict[str, bool] = field(default_factory=dict)
    ray_cpus: float | None = None
    ray_gpus: float | None = None
    clock_offset_s: float | None = None
    clock_error_s: float | None = None
    store: dict[str, StoreProbe] = field(default_factory=dict)
    error: str = ""
    """Why nothing could be found out; everything else is unknown then."""


@dataclass(frozen=True)
class StoreProbe:
    """What happened when this node wrote, read and deleted below a URL."""

    url: str
    seconds: float
    error: str = ""
    warning: str = ""


def gather(url: str | None = None) -> NodeFacts:
    """The facts of the machine that this runs on; with ``url``, whether it can use that store."""
    import psutil

    seen = _tensorflow()
    return NodeFacts(
        host=socket.gethostname(),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        tensorflow_gpus=None if seen.get("gpus") is None else len(seen["gpus"]),
        tensorflow_cuda=seen.get("cuda"),
        tensorflow_error=seen.get("error", ""),
        driver_gpus=_driver_gpus(),
        nccl=_version("nvidia-nccl-cu12"),
        cpus=psutil.cpu_count(),
        memory_free_bytes=int(psutil.virtual_memory().available),
        shm_free_bytes=_free("/dev/shm"),
        scratch_free_bytes=_free(os.environ.get("TMPDIR", "/tmp")),
        backends={
            scheme: importlib.util.find_spec(module) is not None
            for scheme, module in BACKENDS.items()
        },
        store={url: probe_store(url)} if url else {},
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _free(path: str) -> int | None:
    return shutil.disk_usage(path).free if Path(path).is_dir() else None


def _tensorflow() -> dict[str, Any]:
    """What TensorFlow sees, asked in a child process that sees every GPU of the machine."""
    environment = {
        name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"
    }
    command = [sys.executable, "-m", "orchestrator.training.engine.device_probe"]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"importing it took longer than {PROBE_TIMEOUT_S:.0f} s"}
    except OSError as error:
        return {"error": f"the process that asks it can't be started: {error}"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _driver_gpus() -> int | None:
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (
        sum(line.startswith("GPU ") for line in done.stdout.splitlines())
        if done.returncode == 0
        else 0
    )


def probe_store(url: str) -> StoreProbe:
    """Write, read, list and delete a small object below ``url``, and see whether the store creates
    exclusively.
    """
    from orchestrator.errors import OrchestratorError
    from orchestrator.store.objects.exclusive import weaker_promise
    from orchestrator.store.objects.location import open_location

    begun = time.monotonic()
    try:
        directory = open_location(url)
        probe = directory.child("_tfresume", f"doctor-{uuid.uuid4().hex}")
        data = uuid.uuid4().bytes
        probe.parent.list()  # a small question first: a store that can't be reached is told soon
        probe.write_bytes(data)
        try:
            if probe.read_bytes() != data:
                return StoreProbe(
                    directory.shown,
                    time.monotonic() - begun,
                    error="it gave other bytes back than were written",
                )
            if not any(entry.name == probe.name for entry in probe.parent.list()):
                return StoreProbe(
                    directory.shown,
                    time.monotonic() - begun,
                    error="its listing lacks what was just written",
                )
        finally:
            probe.delete()
        return StoreProbe(
            directory.shown, time.monotonic() - begun, warning=weaker_promise(directory)
        )
    except OrchestratorError as error:
        from orchestrator.redaction import redacted

        return StoreProbe(redacted(url), time.monotonic() - begun, error=str(error))
