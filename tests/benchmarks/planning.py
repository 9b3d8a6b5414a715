"""What does planning one large graph take? ``python -m tests.benchmarks.planning META`` answers
with one JSON object.

Rule: read, analyse and rewrite, in a process of its own that did it once for a small graph before;
processor seconds, so that what else runs counts little, and the growth of the process's resident
memory.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil

from orchestrator.config import RunConfig
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import plan
from tests.benchmarks.probe import peak_bytes
from tests.graph.synthetic import deep_chain

CONFIG = RunConfig(source="x", workers=2, input="a:b")


def main(path: str) -> None:
    plan(deep_chain(500), CONFIG)
    data = Path(path).read_bytes()
    before = psutil.Process().memory_info().rss
    started = time.process_time()
    meta = read_meta(data, name=path)
    parsed = psutil.Process().memory_info().rss
    found = plan(meta, CONFIG)
    taken = time.process_time() - started
    peak = peak_bytes()
    assert found.worker_graph is not None, found.problems
    assert found.worker_graph.targets[0].dense
    print(
        json.dumps(
            {
                "cpu_s": taken,
                "file_bytes": len(data),
                "proto_bytes": parsed - before,
                "peak_bytes": peak - before,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
