"""How does a run without ``--address`` get a Ray that outlives its driver?

Rule: started by the supervisor as ``python -m launch.local_ray ADDRESS_FILE WORKERS``; it writes the address into the file, then waits
until its standard input is closed, which happens also when the supervisor is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import ray

from orchestrator.config import WorkersConfig
from orchestrator.driver.ray_link import local_ray_options


def main(arguments: list[str]) -> int:
    """Start Ray, tell its address, stay until the end of standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    target, workers = Path(arguments[0]), WorkersConfig.model_validate_json(arguments[1])
    context = ray.init(**local_ray_options(workers), log_to_driver=False, logging_level=logging.ERROR)
    written = target.with_suffix(".new")
    written.write_text(str(context.address_info["gcs_address"]))
    os.replace(written, target)
    sys.stdin.read()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
