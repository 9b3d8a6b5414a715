"""What does a worker ask for, and which nodes does it keep away from?"""

from __future__ import annotations

import pytest

from orchestrator.config_sections import WorkersConfig
from orchestrator.workers.placement import Placement, avoidable, demand_of
from orchestrator.workers.places import Lent


def test_placement_without_gpus_asks_for_none() -> None:
    assert Placement("run", WorkersConfig(count=2)).lend("w1") == Lent()


@pytest.mark.parametrize(("standby", "gpus"), [(False, 0.5), (True, 0.0)])
def test_demand_of_a_standby_holds_no_gpu(standby: bool, gpus: float) -> None:
    assert demand_of(WorkersConfig(gpus=0.5, cpus=2, memory_bytes=7), standby=standby).gpus == gpus


def test_node_that_keeps_failing_is_avoided_only_where_there_is_another() -> None:
    assert avoidable(["10.0.0.1/aaaa"], ["aaaa1111", "bbbb2222"]) == ("10.0.0.1/aaaa",)
    assert avoidable(["10.0.0.1/aaaa"], ["aaaa1111"]) == ()
