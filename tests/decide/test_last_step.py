"""Where does a run end, and which output may it use?"""

from __future__ import annotations

import pytest

from orchestrator.decide.last_step import last_step
from orchestrator.errors import ConfigError


@pytest.mark.parametrize(
    ("until", "steps", "started", "end"),
    [(100, None, 3, 100), (None, 100, 3, 103), (2, None, 3, 2)],
)
def test_last_step_counts_from_the_first_start(
    until: int | None, steps: int | None, started: int, end: int
) -> None:
    assert last_step(until, steps, started) == end


def test_last_step_of_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="the run has no end") as caught:
        last_step(None, None, 3)
    assert caught.value.remedy == "Say how far it shall train"
    assert caught.value.message.endswith("nor --steps is given")
