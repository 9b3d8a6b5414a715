"""Is this machine, or every node of this cluster, fit for a run?

Rule: pure; facts in, findings out. Each finding says what was looked at, where, what was found, and
for anything but a pass what to do about it. Nodes are compared with each other: what differs
between two nodes fails later than what is missing on all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from launch.doctor.facts import NodeFacts
from launch.text.quantities import bytes_text, seconds_text

Verdict = Literal["ok", "warn", "fail"]

GIB = 1024**3
"""Bytes."""
LEAST_MEMORY_BYTES = 2 * GIB
"""A worker's process holds TensorFlow (about 0.6 GB) and the state several times."""
LEAST_SHM_BYTES = GIB
"""State passes between workers through Ray's object store, which lies in /dev/shm; without room Ray
falls back to /tmp and is slow.
"""
LEAST_SCRATCH_BYTES = 5 * GIB
WORST_CLOCK_S = 5.0
"""Clocks decide nothing in a run, but signed storage requests are refused at some minutes and logs
can't be read together.
"""
OLDEST_PYTHON = (3, 11)
"""As ``requires-python`` of pyproject.toml."""
MUST_AGREE = ("tfresume", "tensorflow", "ray", "protobuf")


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    check: str
    where: str
    verdict: Verdict
    found: str
    cure: str = ""


def diagnosis(nodes: Sequence[NodeFacts], ours: NodeFacts | None = None) -> tuple[Finding, ...]:
    """Everything there is to say about the nodes.

    Args:
        ours: the machine that asks, where it isn't one of the nodes: the driver's versions must
            agree with the workers'.
    """
    asked = [node for node in nodes if not node.error]
    found = [
        Finding(
            "node",
            node.host,
            "fail",
            node.error,
            "Install this version of tfresume on the node, or use its image",
        )
        for node in nodes
        if node.error
    ]
    for node in asked:
        found += _of_node(node)
    found += _agreement([*asked, *([ours] if ours else [])])
    found += [finding for node in asked for finding in _clock(node)]
    return tuple(found)


def passed(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed; warnings pass."""
    return all(finding.verdict != "fail" for finding in findings)


def _of_node(node: NodeFacts) -> Iterator[Finding]:
    yield _python(node)
    yield _tensorflow(node)
    yield _gpus(node)
    if node.driver_gpus:
        yield _nccl(node)
    yield _room(
        "memory",
        node,
        node.memory_free_bytes,
        LEAST_MEMORY_BYTES,
        "Use a larger machine, or end what else runs there",
    )
    yield _room(
        "/dev/shm",
        node,
        node.shm_free_bytes,
        LEAST_SHM_BYTES,
        "Mount a memory volume at /dev/shm (k8s/ does), docker: --shm-size",
    )
    yield _room(
        "scratch",
        node,
        node.scratch_free_bytes,
        LEAST_SCRATCH_BYTES,
        "Free space in /tmp, or point TMPDIR to a larger disk",
    )
    yield _backends(node)
    for probe in node.store.values():
        verdict: Verdict = "fail" if probe.error else "warn" if probe.warning else "ok"
        cure = (
            "See the message; docs/operations.md lists the rights a run needs"
            if verdict != "ok"
            else ""
        )
        said = (
            probe.error
            or probe.warning
            or f"written, read, listed and deleted in {seconds_text(probe.seconds)}"
        )
        yield Finding(f"store {probe.url}", node.host, verdict, said, cure)


def _python(node: NodeFacts) -> Finding:
    version = tuple(int(part) for part in node.python.split(".")[:2])
    new_enough = version >= OLDEST_PYTHON
    cure = "" if new_enough else "Install Python 3.11 or newer"
    return Finding("Python", node.host, "ok" if new_enough else "fail", node.python, cure)


def _tensorflow(node: NodeFacts) -> Finding:
    version = node.packages.get("tensorflow")
    if version is None:
        return Finding(
            "TensorFlow",
            node.host,
            "fail",
            "not installed",
            "pip install 'tensorflow>=2.21,<2.22' (with GPUs 'tensorflow[and-cuda]>=2.21,<2.22')",
        )
    if node.tensorflow_error:
        return Finding(
            "TensorFlow",
            node.host,
            "fail",
            node.tensorflow_error,
            "Run `python -c 'import tensorflow'` there and mend what it says",
        )
    built = f", built for CUDA {node.tensorflow_cuda}" if node.tensorflow_cuda else ""
    return Finding("TensorFlow", node.host, "ok", version + built)


def _gpus(node: NodeFacts) -> Finding:
    seen, there, offered = node.tensorflow_gpus or 0, node.driver_gpus, node.ray_gpus
    said = f"TensorFlow sees {seen}"
    said += "" if there is None else f", the driver {there}"
    said += "" if offered is None else f", Ray offers {offered:g}"
    if there and seen < there:
        return Finding(
            "GPUs",
            node.host,
            "fail",
            said,
            "pip install 'tensorflow[and-cuda]>=2.21,<2.22', or mend the CUDA libraries: TensorFlow can't open them",
        )
    if offered is not None and offered > seen:
        return Finding(
            "GPUs",
            node.host,
            "fail",
            said,
            "Start Ray there with --num-gpus of what TensorFlow sees",
        )
    if offered is not None and seen > offered:
        return Finding(
            "GPUs",
            node.host,
            "warn",
            said,
            "Start Ray there with --num-gpus, else no worker gets these GPUs",
        )
    return Finding("GPUs", node.host, "ok", said)


def _nccl(node: NodeFacts) -> Finding:
    if node.nccl is None:
        return Finding(
            "NCCL",
            node.host,
            "warn",
            "no nvidia-nccl package",
            "pip install 'tensorflow[and-cuda]>=2.21,<2.22', else use --exchange host",
        )
    return Finding("NCCL", node.host, "ok", node.nccl)


def _room(what: str, node: NodeFacts, free: int | None, least: int, cure: str) -> Finding:
    if free is None:
        return Finding(what, node.host, "warn", "not there", cure)
    enough = free >= least
    return Finding(
        what,
        node.host,
        "ok" if enough else "warn",
        f"{bytes_text(free)} free",
        "" if enough else cure,
    )


def _backends(node: NodeFacts) -> Finding:
    there = [scheme for scheme, installed in node.backends.items() if installed]
    missing = [scheme for scheme, installed in node.backends.items() if not installed]
    said = (
        "file"
        + "".join(f", {scheme}" for scheme in there)
        + (f"; not installed: {', '.join(missing)}" if missing else "")
    )
    return Finding("storage clients", node.host, "ok", said)


def _agreement(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    for package in MUST_AGREE:
        by_version: dict[str, list[str]] = {}
        for node in nodes:
            by_version.setdefault(node.packages.get(package) or "not installed", []).append(
                node.host
            )
        if len(by_version) > 1:
            said = "; ".join(
                f"{version} on {', '.join(sorted(set(hosts)))}"
                for version, hosts in sorted(by_version.items())
            )
            yield Finding(
                f"{package} agrees",
                "all nodes",
                "fail",
                said,
                f"Install one version of {package} everywhere (one image for all nodes)",
            )
        elif by_version and package != "tensorflow":
            (version,) = by_version
            missing = version == "not installed"
            yield Finding(
                package,
                "all nodes",
                "fail" if missing else "ok",
                version,
                f"pip install {package}" if missing else "",
            )
    pythons = {".".join(node.python.split(".")[:2]): node.host for node in nodes if node.python}
    if len(pythons) > 1:
        said = "; ".join(f"{version} on {host}" for version, host in sorted(pythons.items()))
        yield Finding(
            "Python agrees",
            "all nodes",
            "fail",
            said,
            "Ray needs one minor version of Python everywhere",
        )


def _clock(node: NodeFacts) -> Iterator[Finding]:
    if node.clock_offset_s is None:
        return
    off = abs(node.clock_offset_s) - (node.clock_error_s or 0.0)
    said = f"{node.clock_offset_s:+.2f} s ± {node.clock_error_s or 0.0:.2f} s against this machine"
    yield Finding(
        "clock",
        node.host,
        "ok" if off <= WORST_CLOCK_S else "warn",
        said,
        "" if off <= WORST_CLOCK_S else "Run an NTP client there",
    )
