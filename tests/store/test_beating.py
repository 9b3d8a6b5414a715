"""Does one look at a lease tell that its holder's heart beats, and only where it can?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.store.run.beating import beats
from orchestrator.store.run.holder import Holder
from orchestrator.store.run.lease import NOBODY, Observed

BEATEN = 1_700_000_000.0
HELD = Observed(
    Holder(attempt=1, name="me", writer="w", lease_s=30.0),
    released=False,
    dead=False,
    beat=b"w 1\n",
    beaten=BEATEN,
)


@pytest.mark.parametrize(
    ("age_s", "alive"),
    [
        pytest.param(0.0, True, id="just now"),
        pytest.param(10.0, True, id="two beats"),
        pytest.param(10.1, False, id="older"),
        pytest.param(-0.1, False, id="from the future: a clock is wrong"),
    ],
)
def test_heartbeat_counts_at_once_only_where_both_clocks_call_it_young(
    age_s: float, alive: bool
) -> None:
    assert beats(HELD, BEATEN + age_s) is alive


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(NOBODY, id="nobody"),
        pytest.param(replace(HELD, holder=None), id="a heartbeat without a lease"),
        pytest.param(replace(HELD, released=True), id="released"),
        pytest.param(replace(HELD, dead=True), id="its process is gone"),
        pytest.param(replace(HELD, beaten=None), id="no heartbeat yet"),
    ],
)
def test_run_that_nobody_holds_has_no_heart_that_beats(observed: Observed) -> None:
    assert not beats(observed, BEATEN)
