"""The driver that the tests kill: ``python -m tests.chaos.supervised CONFIG_JSON``, started by the
real supervisor.

With ``--supervise`` first, this process is the supervisor.
"""

from __future__ import annotations

import json
import sys

from orchestrator.config import parse_config


def main(words: list[str]) -> int:
    config = parse_config(json.loads(words[-1]))

    def drive() -> int:
        from launch.commands.resume import or_crashed
        from launch.terminal import guarded
        from orchestrator.driver.main import resume

        return guarded(lambda: or_crashed(lambda: resume(config).exit_code), as_json=False)

    if words[0] == "--supervise":
        from launch.supervisor import supervise

        return supervise(drive, config)
    return drive()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
