"""How long from the command to the first step, against a bare TF1 script?"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from ray.cluster_utils import Cluster

from tests.benchmarks import probe
from tests.benchmarks.bench_steps import resume_words
from tests.benchmarks.commands import make_checkpoint, run, tfresume
from tests.benchmarks.figures import Figure, spread

STEPS, ROUNDS = 5, 5


def _first_step_s(log: Path, started_at: float, rank: int = 0) -> float:
    """Seconds until the second batch was asked for: then the first step is done."""
    return [moment.at for moment in probe.moments(log) if moment.rank == rank][1] - started_at


def _bare(directory: Path, meta: Path) -> list[float]:
    taken = []
    for turn in range(ROUNDS):
        log = directory / f"bare{turn}"
        done = run("-m", "tests.benchmarks.bare_tf1", meta, str(STEPS), probe_file=log)
        taken.append(_first_step_s(log, done.started_at))
    return taken


def _ours(directory: Path, meta: Path, label: str, log: Path | None, *extra: str) -> list[float]:
    taken = []
    for turn in range(ROUNDS):
        file = log or directory / f"{label}{turn}"
        file.unlink(missing_ok=True)
        done = run(
            *resume_words(meta, directory / f"out-{label}{turn}", 1, STEPS), *extra, probe_file=file
        )
        taken.append(_first_step_s(file, done.started_at))
    return taken


def _demo(directory: Path) -> Figure:
    taken = [
        run(
            *tfresume("demo", "--directory", directory / f"demo{turn}"),
            probe_file=directory / "unused",
        ).wall_s
        for turn in range(3)
    ]
    return Figure("demo, seconds", median(taken), 60.0, True, spread(taken, "s"))


def figures(directory: Path) -> list[Figure]:
    """Embedded Ray and a running cluster, each over the bare script; the demo."""
    import os

    meta = make_checkpoint(directory / "graph", "mnist")
    bare = _bare(directory, meta)
    embedded = _ours(directory, meta, "embedded", None)
    log = directory / "cluster.log"
    os.environ["PROBE_FILE"] = str(log)  # the workers of a running cluster have its environment
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "include_dashboard": False, "dashboard_port": 0},
    )
    try:
        running = _ours(directory, meta, "cluster", log, "--address", cluster.address)
    finally:
        cluster.shutdown()
        del os.environ["PROBE_FILE"]
    behind = f"bare {spread(bare, 's')}"
    return [
        Figure(
            "command to first step, local Ray, over a bare script",
            median(embedded) / median(bare),
            3.5,
            True,
            f"{spread(embedded, 's')}; {behind}",
        ),
        Figure(
            "command to first step, running cluster, over a bare script",
            median(running) / median(bare),
            1.6,
            True,
            f"{spread(running, 's')}; {behind}",
        ),
        _demo(directory),
    ]
