"""Which stores do the tests run against? Real servers over HTTP on loopback, local disk and memory;
one contract for all.

A pytest plugin: ``store`` (each in turn), ``http_store`` (the two object stores, behind a fault
proxy), ``gcs_server``, ``s3_server``, and, where they're installed, ``az_server`` and
``weed_server``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.store.objects.location import Location, open_location
from tests.servers.fault_proxy import FaultProxy
from tests.servers.programs import KINDS, Server, missing, running

SERVERS = {*(f"{kind}_server" for kind in KINDS), "http_store"}
OPTIONAL = tuple(kind for kind in ("az", "weed") if not missing(kind))
"""Those of the optional servers that are here; ``test_optional_store`` says which aren't."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what talks HTTP, so that the fast check can leave it out."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        params = item.callspec.params if hasattr(item, "callspec") else {}
        if used & SERVERS or params.get("store") in KINDS:
            item.add_marker(pytest.mark.http)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Server]:
    """fake-gcs-server with one bucket."""
    with running("gcs") as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """moto with one bucket."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    with running("s3") as server:
        yield server


@pytest.fixture(scope="session")
def az_server() -> Iterator[Server]:
    """azurite with one container."""
    with running("az") as server:
        yield server


@pytest.fixture(scope="session")
def weed_server() -> Iterator[Server]:
    """SeaweedFS with one bucket."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    with running("weed") as server:
        yield server


@dataclass(frozen=True)
class HttpStore:
    """An object store behind a proxy that can spoil its answers. ``root`` goes through the proxy,
    ``direct`` doesn't.
    """

    kind: str
    proxy: FaultProxy
    root: Location
    direct: Location

    @property
    def put(self) -> str:
        """The method by which the store's client creates objects."""
        return "POST" if self.kind == "gcs" else "PUT"


@pytest.fixture(params=["local", "memory", "gcs", "s3", *OPTIONAL])
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
        yield HttpStore(
            request.param, proxy, root, open_location(server.url(name), **server.options())
        )
    finally:
        proxy.close()
