"""How do evaluations read on a terminal?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from launch.text.quantities import count_text, seconds_text

if TYPE_CHECKING:
    from orchestrator.driver.evaluate import Evaluated
    from orchestrator.driver.following import Followed
    from orchestrator.store.run.evaluations import Best, Evaluation


def evaluated_text(found: Evaluated) -> str:
    """One checkpoint's metrics, a line each, and what they are means over."""
    lines = [f"{name}  {value:.6g}" for name, value in found.metrics.items()]
    over = (
        f"means over {count_text(found.batches)} batches, weighted by their {count_text(found.rows)} rows"
        if found.rows
        else f"means over {count_text(found.batches)} batches, which count the same: their rows aren't known"
    )
    return "\n".join(
        [
            f"{found.checkpoint}, step {count_text(found.step)}",
            *lines,
            f"{over}, in {seconds_text(found.seconds)}",
        ]
    )


def result_line(result: Evaluation, best: Best | None) -> str:
    """One result of a run that is followed."""
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in result.metrics.items())
    mark = "  (best so far)" if best is not None and best.label == result.label else ""
    return f"step {count_text(result.step)}: {metrics}{mark}"


def followed_text(found: Followed) -> str:
    """How following a run ended."""
    count = len(found.evaluations)
    lines = [f"{found.reason}: {count} evaluated by {found.name}"]
    if found.best is not None:
        best = found.best
        lines.append(
            f"the best is kept: {best.label}, {best.metric} {best.value:.6g} at step {count_text(best.step)}"
        )
    lines += [f"not evaluated: {label}: {reason}" for label, reason in found.skipped.items()]
    return "\n".join(lines)
