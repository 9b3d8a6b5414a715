"""Stands in the place of a proof's process: is killed, aborts, or never ends."""

from __future__ import annotations

import os
import signal
import sys
import time

if __name__ == "__main__":
    sys.stderr.write("its last words\n")
    sys.stderr.flush()
    number = {"killed": signal.SIGKILL, "aborted": signal.SIGABRT}.get(os.environ["TRIAL_ENDS"])
    if number is not None:
        os.kill(os.getpid(), number)
    time.sleep(600)
