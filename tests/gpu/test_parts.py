"""Which parts are run, what becomes of one that hangs or fails, and what does the report say of it?"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.gpu import parts, report, run
from tests.gpu.parts import PARTS, Result

DONE = {
    "placement": Result("placement", "gpu", "done"),
    "saving": Result("saving", "gpu", "failed", "hung"),
}


def names(found: list[parts.Part]) -> list[str]:
    return [part.name for part in found]


def test_second_run_leaves_out_what_is_done_and_tries_again_what_failed() -> None:
    assert names(parts.chosen([], DONE, "gpu", again=False)) == [
        part.name for part in PARTS if part.name != "placement"
    ]


def test_result_of_the_cpu_does_not_stand_for_the_gpu() -> None:
    assert "placement" in names(
        parts.chosen([], {"placement": Result("placement", "cpu", "done")}, "gpu", again=False)
    )


def test_chosen_parts_keep_their_order_and_again_repeats_them() -> None:
    assert names(parts.chosen(["saving", "placement"], DONE, "gpu", again=True)) == [
        "placement",
        "saving",
    ]
    assert names(parts.chosen(["saving", "placement"], DONE, "gpu", again=False)) == ["saving"]


def test_unknown_part_is_named() -> None:
    with pytest.raises(ValueError, match="no part is called speed"):
        parts.chosen(["speed"], {}, "gpu", again=False)


def test_process_without_a_result_has_failed_with_its_last_line() -> None:
    found = parts.result_of("saving", "gpu", 1, "begin\nValueError: no room\n\n", 2.0)
    assert (found.status, found.reason) == ("failed", "ended with 1: ValueError: no room")


def test_result_of_a_process_that_crashed_after_printing_it_has_failed() -> None:
    line = parts.RESULT_LINE + json.dumps({"status": "done", "reason": "", "figures": {"s": 1.0}})
    assert parts.result_of("saving", "gpu", 0, line, 2.0).status == "done"
    assert parts.result_of("saving", "gpu", -11, line, 2.0).status == "failed"


@pytest.mark.slow  # it waits for what is started to be up
def test_part_that_hangs_is_killed_with_its_children_at_the_deadline(tmp_path: Path) -> None:
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    log = tmp_path / "log"
    assert parts.run_within([sys.executable, "-c", code], 3.0, log, os.environ) is None
    stat = Path(f"/proc/{int(log.read_text())}/stat")
    # the kernel ends a killed process in its own time; the child would have slept for 600 s
    deadline = time.monotonic() + 30
    while not has_ended(stat):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.01)


def has_ended(stat: Path) -> bool:
    """Whether the process of a /proc/PID/stat is gone, or only waits for its parent to ask for its
    exit status.
    """
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_results_are_read_back_as_written(tmp_path: Path) -> None:
    result = Result("saving", "gpu", "done", "", 3.5, {"stall s": [0.5, 0.25]})
    parts.write_result(tmp_path, result)
    assert parts.read_results(tmp_path) == {"saving": result}


def test_report_has_the_card_a_row_for_each_figure_and_every_part() -> None:
    results = {
        "saving": Result("saving", "gpu", "done", "", 3.5, {"stall s": [0.5, 0.25]}),
        "abort": DONE["saving"],
    }
    page = report.markdown({"card, driver, memory": "Card X, 1.2"}, results)
    assert "- card, driver, memory: Card X, 1.2" in page
    assert "| saving | done (gpu) | stall s | 0.5, 0.25 |" in page
    assert "| abort | failed (gpu) |  | hung |" in page
    assert all(f"| {part.name} | " in page for part in PARTS)


def test_machine_without_a_gpu_is_told_to_try_the_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run.main(["--use-environment", "--out", str(tmp_path)]) == 2
    assert "--dry-run-on-cpu" in capsys.readouterr().err
