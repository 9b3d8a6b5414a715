"""How does somebody with a GPU run all that needs one, in one go, on a machine that has a driver,
Python and a folder of wheels?

    python3 tests/gpu/run.py --wheels WHEELS --out RESULTS            # on the machine with the GPU,
    no network needed python3 tests/gpu/run.py --collect-wheels WHEELS --part-mb 60     # before
    that, on one with a network

Rule: nothing outside of ``--out`` is changed; one part that fails doesn't stop the others; a second
run goes on where the first stopped. Exit code: 0 where every chosen part is done (with
``--dry-run-on-cpu``: or tells why it wasn't run), 1 where one isn't, 2 where nothing could begin.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.gpu import parts, report, wheels

OLDEST = (3, 11)
VERSIONS = """
import importlib.metadata as m
names = ("tensorflow", "ray", "numpy", "protobuf", "nvidia-nccl-cu12", "nvidia-cudnn-cu12", "nvidia-cuda-runtime-cu12")
have = {d.metadata["Name"].lower() for d in m.distributions()}
print("; ".join(f"{n} {m.version(n)}" for n in names if n in have))
"""


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder of wheels, whole or as NAME.whl.part-aa …"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("gpu-report"),
        help="folder for everything that is made (default: %(default)s)",
    )
    parser.add_argument(
        "--wanted",
        default="tfresume[dev,gpu]",
        help="what pip installs from the wheels (default: %(default)s)",
    )
    parser.add_argument(
        "--use-environment",
        action="store_true",
        help="run in this Python's packages beside what the wheels hold",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="PART",
        help=", ".join(part.name for part in parts.PARTS),
    )
    parser.add_argument("--again", action="store_true", help="run parts that are done already too")
    parser.add_argument(
        "--dry-run-on-cpu",
        action="store_true",
        help="small sizes, the CPU in place of the GPU: tests this script",
    )
    parser.add_argument(
        "--collect-wheels",
        type=Path,
        metavar="DIR",
        help="fill DIR with wheels instead; needs a network",
    )
    parser.add_argument(
        "--extras",
        default="dev,gpu",
        help="extras of the project to collect (default: %(default)s)",
    )
    parser.add_argument(
        "--python",
        help="collect for this version of Python, such as 3.12 (default: the running one)",
    )
    parser.add_argument(
        "--part-mb", type=int, help="split collected wheels into parts of so many MiB"
    )
    chosen = parser.parse_args(words)
    if not (chosen.wheels or chosen.use_environment or chosen.collect_wheels):
        parser.error(
            "give --wheels, --use-environment or both; or --collect-wheels on a machine with a network"
        )
    return chosen


def cards() -> list[str]:
    """``name, driver, memory`` of each GPU; empty where nvidia-smi is missing or sees none."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return (
        [line.strip() for line in done.stdout.splitlines() if line.strip()]
        if done.returncode == 0
        else []
    )


def machine(device: parts.Device, environment: Mapping[str, str]) -> dict[str, str]:
    """What the figures belong to: the card with its driver, Python, versions."""
    told = subprocess.run(
        [sys.executable, "-c", VERSIONS],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=True,
    )
    card = (
        "; ".join(cards())
        if device == "gpu"
        else "none: dry run on the CPU, the figures say nothing about a GPU"
    )
    return {
        "card, driver, memory": card,
        "python": platform.python_version(),
        "versions": told.stdout.strip(),
    }


def begin(asked: argparse.Namespace) -> dict[str, str]:
    """The environment of the parts, after a look at the machine and the installation.

    Raises:
        RuntimeError: no GPU, a Python that is too old, or pip failed.
    """
    if sys.version_info < OLDEST:
        raise RuntimeError(
            f"Python {platform.python_version()} is too old: run this with {'.'.join(map(str, OLDEST))} or newer"
        )
    if not asked.dry_run_on_cpu and not cards():
        raise RuntimeError(
            "nvidia-smi sees no GPU: install the driver, or test this script with --dry-run-on-cpu"
        )
    target = None
    if asked.wheels:
        target = wheels.install(
            asked.wheels.resolve(), asked.out, asked.wanted, asked.out / "logs" / "install.log"
        )
    return wheels.environment(target)


def run_all(asked: argparse.Namespace) -> int:
    """Install, run the parts, report after each of them; the exit code."""
    device: parts.Device = "cpu" if asked.dry_run_on_cpu else "gpu"
    kept = parts.read_results(asked.out)
    wanted = parts.chosen(asked.only, kept, device, again=asked.again)
    environment = begin(asked)
    about = machine(device, environment)
    for part in wanted:
        print(f"{part.name}: {part.question}?", flush=True)
        result = parts.run_part(part, device, asked.out, environment)
        parts.write_result(asked.out, result)
        print(f"  {result.status} after {result.seconds:g} s {result.reason}", flush=True)
        report.write_report(asked.out, about, parts.read_results(asked.out))
    results = parts.read_results(asked.out)
    report.write_report(asked.out, about, results)
    print(f"report: {asked.out / 'report.md'}")
    good = {"done", "not run"} if asked.dry_run_on_cpu else {"done"}
    names = asked.only or [part.name for part in parts.PARTS]
    return 0 if all(name in results and results[name].status in good for name in names) else 1


def main(words: list[str] | None = None) -> int:
    """The exit code of one run."""
    asked = arguments(words)
    asked.out = asked.out.resolve()
    try:
        if asked.collect_wheels:
            folder = asked.collect_wheels.resolve()
            log = asked.out / "logs" / "collect.log"
            made = wheels.collect(
                folder, extras=asked.extras, python=asked.python, part_mb=asked.part_mb, log=log
            )
            print(
                f"{len(made)} files in {folder}: copy it beside a checkout of the project and give it as --wheels there"
            )
            return 0
        return run_all(asked)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
