"""The driver that the tests kill: ``python -m tests.chaos.supervised CONFIG_JSON``, started by the real supervisor.

With ``--supervise`` first, this process is the supervisor.
"""

from __future__ import annotations

import json
import sys

from orchestrator.config import parse_config


def main(words: list[str]) -> int:
    if words[0] == "--supervise":
        from launch.supervisor import supervise

        return supervise(words[1:], parse_config(json.loads(words[1])), command=[sys.executable, "-m", "tests.chaos.supervised"])
    from orchestrator.driver.main import resume

    return resume(parse_config(json.loads(words[0]))).exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
