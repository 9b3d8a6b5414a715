"""How does a run without ``--address`` get a Ray that outlives its driver?

Rule: started by the supervisor as ``python -m launch.local_ray ADDRESS_FILE CPUS``; it writes the
address into the file, then waits until its standard input is closed, which happens also when the
supervisor is killed. The run waits for it, so it imports Ray and nothing else, and starts of Ray
only what a run uses.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import ray
from ray._private.node import Node

UNUSED = ("start_api_server", "start_monitor", "start_log_monitor")
"""Dashboard, autoscaler and the mover of logs to the driver. Ray waits for the first and starts the
others' interpreters while the workers import TensorFlow: without them a first step came 2 of 10 s
earlier on two cores, the end 1.5 s, and 280 MB of memory are free.
"""


def main(arguments: list[str]) -> int:
    """Start Ray, tell its address, stay until the end of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    target, cpus = Path(arguments[0]), int(arguments[1])
    # Ray's workers stand back behind every other process of the machine (nice 15); here they're
    # what it runs for
    os.environ.setdefault("RAY_worker_niceness", "0")
    leave_out(Node, UNUSED)
    context = ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    written = target.with_suffix(".new")
    written.write_text(str(context.address_info["gcs_address"]))
    os.replace(written, target)
    sys.stdin.read()
    ray.shutdown()
    return 0


def leave_out(node: type, starters: tuple[str, ...]) -> None:
    """Let a node start without these parts. They're private to Ray: where a name is gone, Ray
    starts what it starts.
    """
    for name in starters:
        if hasattr(node, name):
            setattr(node, name, lambda *_args, **_options: None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
