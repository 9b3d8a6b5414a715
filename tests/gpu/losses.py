"""How long after a worker was killed is the survivor's next step done?"""

from __future__ import annotations

import time

from orchestrator.errors import PeerLost
from tests.gpu.settings import Setting
from tests.graphs.feeds import feeds_for
from tests.training.ranks import outcome_of
from tests.training.test_gpu import trained

STEPS = 10


def seconds_to_next_step(setting: Setting) -> tuple[int, float]:
    """Steps after which both had the same bytes, and seconds from the kill to the end of the
    survivor's next step.
    """
    serve = feeds_for("mlp")
    with setting.ranks(2) as ranks:
        shared = setting.options(batches_per_step=2, gpu_memory_fraction=0.4)
        ranks.start(setting.checkpoint("mlp", optimizer="adam"), options=shared)
        before = trained(ranks, "mlp", STEPS)
        survivor, victim = ranks.processes
        survivor.send("step", [serve(50)])
        began = time.monotonic()
        victim.kill()
        if not isinstance(outcome := outcome_of(survivor.receive), PeerLost):
            raise RuntimeError(f"the kill wasn't noticed: {outcome!r}")
        ranks.form([survivor])
        (after,) = ranks.step([serve(50), serve(51)])
        seconds = time.monotonic() - began
    if after.step != before.step + 1:
        raise RuntimeError(f"step {after.step} follows {before.step}")
    return STEPS, seconds
