"""Is the end of a process that was asked for TensorFlow told as what it was?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.driver.tensorflow_process import ask_tensorflow
from orchestrator.errors import FatalError

ENDS_BADLY = "tests.driver.trials_that_end_badly"


@pytest.mark.parametrize(
    ("how", "timeout_s", "told", "remedy"),
    [
        ("killed", 60.0, "was killed, most likely for its memory", "more memory"),
        ("aborted", 60.0, "failed: its last words", ""),
        ("hangs", 0.5, "took more than 0.5 s and was ended", "fewer batches"),
    ],
)
def test_process_that_ends_badly_is_told_in_words_and_with_a_remedy(
    how: str,
    timeout_s: float,
    told: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRIAL_ENDS", how)
    with pytest.raises(FatalError, match=told) as caught:
        ask_tensorflow(ENDS_BADLY, {}, tmp_path / "answer.json", timeout_s)
    assert remedy in (caught.value.remedy or "")
