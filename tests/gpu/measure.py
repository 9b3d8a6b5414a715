"""What does one part find? Run as ``python -m tests.gpu.measure PART gpu|cpu OUT``; figures go out
as one line.

Rule: the ranks, graphs and comparisons are those of the tests. A part that can't be run here says
why instead of failing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.gpu.parts import RESULT_LINE
from tests.gpu.settings import NotRun, Setting

Figures = dict[str, Any]


def tests(setting: Setting) -> Figures:
    """The tests marked ``gpu``, as ``make gpu-check`` runs them."""
    file = setting.out / "gpu-check.xml"
    words = [
        "-m",
        "pytest",
        "tests",
        "-m",
        "gpu",
        "-v",
        "-p",
        "no:cacheprovider",
        f"--junitxml={file}",
    ]
    code = subprocess.run([sys.executable, *words], check=False).returncode
    suite = next(ElementTree.parse(file).getroot().iter("testsuite")).attrib
    counts = {name: int(suite[name]) for name in ("tests", "failures", "errors", "skipped")}
    if counts["tests"] and counts["skipped"] == counts["tests"]:
        raise NotRun(f"all {counts['tests']} tests were skipped: they see no GPU")
    if code:
        raise RuntimeError(f"pytest ended with {code}: {counts}")
    return {**counts, "seconds": float(suite["time"])}


def placement(setting: Setting) -> Figures:
    """Devices of a step's operations, of a graph that was saved on a parameter server and on a
    fourth GPU.
    """
    from tests.graphs.feeds import feeds_for
    from tests.training.test_gpu import devices_used

    with setting.ranks(1) as ranks:
        ranks.start(
            setting.checkpoint("mlp", optimizer="adam", devices=True), options=setting.options()
        )
        used = ranks.processes[0].call("apply", devices_used, feeds_for("mlp")(0))
    kinds = {name: "gpu" if "GPU:" in device.upper() else "cpu" for name, device in used.items()}
    products = {kinds[name] for name in kinds if "MatMul" in name}
    if products != {setting.device}:
        raise RuntimeError(
            f"products ran on {sorted(products)}, not on the {setting.device}: {used}"
        )
    counts = {where: sum(kind == where for kind in kinds.values()) for where in ("gpu", "cpu")}
    return {
        "operations on the GPU": counts["gpu"],
        "operations on the CPU": counts["cpu"],
        "products on": sorted(products),
    }


def sharing(setting: Setting) -> Figures:
    """Two workers on one GPU: equal states, and the seconds from a kill to the end of the next
    step.
    """
    from tests.gpu.losses import seconds_to_next_step

    found = [seconds_to_next_step(setting) for _ in range(setting.rounds)]
    return {
        "steps with equal states": sum(steps for steps, _ in found),
        "s from a kill to the next step": [s for _, s in found],
    }


def saving(setting: Setting) -> Figures:
    """What a save holds up, ours in the rank that trains, TensorFlow's in a session of its own."""
    from tests.benchmarks.bench_saving import SAVER
    from tests.gpu.timings import stalls

    prefix = setting.checkpoint("wide", megabytes=setting.state_mb)
    with setting.ranks(1) as ranks, tempfile.TemporaryDirectory() as directory:
        ranks.start(prefix, options=setting.options())
        ours = ranks.processes[0].call("apply", stalls, directory, setting.rounds)
    with tempfile.TemporaryDirectory() as directory:
        words = [sys.executable, "-c", SAVER, f"{prefix}.meta", directory]
        theirs = subprocess.run(
            words, env=setting.environment(), stdout=subprocess.PIPE, text=True, check=True
        )
    saver = [float(line) for line in theirs.stdout.split()]
    return {"state MiB": setting.state_mb, "stall s": ours, "Saver.save s": saver}


def exchange(setting: Setting) -> Figures:
    """Steps whose gradients have so many bytes, alone and by two; an all-reduce through
    TensorFlow's collective in a group of one.
    """
    from tests.gpu.timings import collective_s, fetch_s, steps_s

    found: Figures = {}
    for megabytes in setting.exchange_mb:
        prefix = setting.checkpoint("wide", megabytes=megabytes)
        for count in (1, 2):
            with setting.ranks(count) as ranks:
                shared = setting.options(batches_per_step=2, gpu_memory_fraction=0.4)
                ranks.start(prefix, options=shared)
                found[f"{megabytes} MB: s of a step of two batches by {count}"] = steps_s(
                    ranks, setting.rounds
                )
        with setting.ranks(1) as ranks:
            worker = ranks.processes[0]
            found[f"{megabytes} MB: s of a copy to the host"] = worker.call(
                "function", fetch_s, megabytes, setting.gpu
            )
        hint = "nccl" if setting.gpu else "ring"
        with setting.ranks(1) as ranks:
            alone = ranks.processes[0].call("function", collective_s, megabytes, setting.gpu)
        found[f"{megabytes} MB: s of {hint} in a group of one"] = alone
    return found


def reforming(setting: Setting) -> Figures:
    """Memory of a rank after the first re-forms and after the last."""
    from tests.gpu.timings import memory_over_reforms

    with setting.ranks(2) as ranks:
        shared = setting.options(batches_per_step=2, gpu_memory_fraction=0.4)
        ranks.start(setting.checkpoint("mlp", optimizer="adam"), options=shared)
        return memory_over_reforms(ranks, setting.reforms, setting.gpu)


def abort(setting: Setting) -> Figures:
    """What TensorFlow reports of an all-reduce that never ended until it was aborted."""
    from tests.gpu.aborting import aborted_all_reduce

    return aborted_all_reduce(setting)


PARTS: dict[str, Callable[[Setting], Figures]] = {
    each.__name__: each for each in (tests, placement, sharing, saving, exchange, reforming, abort)
}


def main(name: str, device: str, out: str) -> None:
    """Run one part and print its result."""
    status, reason, figures = "done", "", Figures()
    try:
        with _scratch() as directory:
            figures = PARTS[name](
                Setting("gpu" if device == "gpu" else "cpu", Path(out), directory)
            )
    except NotRun as told:
        status, reason = "not run", str(told)
    print(
        RESULT_LINE + json.dumps({"status": status, "reason": reason, "figures": figures}),
        flush=True,
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gpu-part-") as directory:
        yield Path(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
