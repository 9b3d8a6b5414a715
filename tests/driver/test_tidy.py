"""What becomes of what the last driver of a run left when it died after all was saved?"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import parse_config
from orchestrator.driver import taking_up
from orchestrator.driver.claim import Claim
from orchestrator.driver.taking_up import tidy
from orchestrator.errors import OutputError
from orchestrator.store.objects.location import open_location


@pytest.mark.parametrize(
    ("places", "pointed", "held", "ended"),
    [
        (2, "right", False, True),
        (0, "right", False, False),
        (0, "elsewhere", False, True),
        (2, "elsewhere", True, False),
    ],
)
def test_what_a_run_that_is_done_left_is_tidied_unless_somebody_holds_it(
    places: int,
    pointed: str,
    held: bool,
    ended: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Places stayed reserved for ever, and TensorFlow was pointed at an older checkpoint: the same
    command said done, and no driver came any more.
    """
    output = open_location(str(tmp_path))
    config = parse_config({"source": "none", "output": output.url, "until_step": 9})
    done: list[str] = []
    monkeypatch.setattr(taking_up, "read_pointer", lambda output: pointed)
    monkeypatch.setattr(taking_up, "reserved", lambda namespace: places)
    monkeypatch.setattr(taking_up, "end_run", done.append)

    def claim() -> Claim:
        if held:
            raise OutputError("attempt 1 lives")
        return Claim.take(config, output)

    tidy(claim, output, "right")
    assert bool(done) == ended
