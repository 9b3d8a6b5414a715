"""``make bench``: every figure of tests/benchmarks, measured side by side on this machine, now.

``python -m tests.benchmarks [NAME ...]`` runs those whose file name contains one of the words. Exit
code 1 where a figure misses its bar.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path


def main(wanted: list[str]) -> int:
    missed = 0
    names = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))
    for name in names:
        if wanted and not any(word in name for word in wanted):
            continue
        print(f"\n{name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="tfresume-bench-") as folder:
            for figure in importlib.import_module(f"tests.benchmarks.{name}").figures(Path(folder)):
                line = figure.line()
                missed += line.startswith("MISS")
                print(line, flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
