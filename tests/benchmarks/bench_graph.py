"""How long and how much memory do large graphs take before anything runs? Planning, and the
``inspect`` command.

Rule: a chain of layers with its backward pass, updates and the shapes that tf.train.Saver writes
beside each node, all of it under one train op; every run is a process of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.commands import run, tfresume
from tests.benchmarks.figures import Figure, spread
from tests.graph.synthetic import deep_chain

NODES, ROUNDS = 25_000, 3
MB = 1e6


def _written(directory: Path, nodes: int) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"chain-{nodes}.meta"
    path.write_bytes(deep_chain(nodes, shapes=True).SerializeToString())
    return path


def _planned(directory: Path, nodes: int, rounds: int) -> list[dict[str, Any]]:
    path = _written(directory, nodes)
    ends = [
        run("-m", "tests.benchmarks.planning", path, probe_file=directory / "unused", timeout_s=900)
        for _ in range(rounds)
    ]
    return [json.loads(done.stdout) for done in ends]


def planning(directory: Path) -> list[Figure]:
    """Seconds, memory, and how both grow."""
    usual, large = [], []
    for _ in range(ROUNDS):  # turn about, and medians: one run of the large one was a tenth off
        usual.extend(_planned(directory, NODES, 1))
        large.extend(_planned(directory, 10 * NODES, 1))
    seconds, more = [one["cpu_s"] for one in usual], [one["cpu_s"] for one in large]
    peak = median(one["peak_bytes"] for one in usual)
    file, proto = usual[0]["file_bytes"], median(one["proto_bytes"] for one in usual)
    sizes = f"peak {peak / MB:.0f} MB, the proto {proto / MB:.1f} MB in memory, {file / MB:.1f} MB as a file"
    behind = f"{spread(more, 's')} against {spread(seconds, 's')}"
    return [
        Figure(
            f"planning {NODES} nodes, processor seconds",
            median(seconds),
            5.0,
            True,
            spread(seconds, "s"),
        ),
        Figure(
            "planning 250000 nodes over ten times 25000",
            median(more) / median(seconds) / 10,
            1.3,
            True,
            behind,
        ),
        Figure("planning: peak memory over the proto's in memory", peak / proto, 10.0, True, sizes),
        Figure("planning: peak memory over the file's size", peak / file, 10.0, True, sizes),
    ]


def inspecting(directory: Path, nodes: int, bar_s: float) -> Figure:
    """Wall seconds of the command, start of Python included."""
    path = _written(directory, nodes)
    words = tfresume("inspect", path, "--json")
    taken = [run(*words, probe_file=directory / "unused").wall_s for _ in range(ROUNDS)]
    behind = f"{spread(taken, 's')}, {path.stat().st_size / MB:.1f} MB"
    return Figure(f"inspect of {nodes} nodes, seconds", median(taken), bar_s, True, behind)


def figures(directory: Path) -> list[Figure]:
    """All figures of this file."""
    return [
        *planning(directory),
        inspecting(directory, 7_000, 1.0),
        inspecting(directory, NODES, 3.0),
    ]
