"""What becomes of an answer that nobody can be given?"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "launch.cli", "config", "--json-schema"]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_answer_that_does_not_fit_onto_its_disk_is_one_clear_error() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            COMMAND, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=300
        )
    assert done.returncode == 1
    assert "the answer can't be written to standard output" in done.stderr
    assert "Free space where it goes" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_reader_who_has_seen_enough_ends_the_command_without_a_word() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            COMMAND, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=300
        )
    finally:
        os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""
