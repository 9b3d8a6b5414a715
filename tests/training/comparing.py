"""When are two states the same, and when nearly?"""

from __future__ import annotations

import numpy as np

from orchestrator.training.state.state import State, checksums


def assert_identical(first: State, second: State, *, without: frozenset[str] = frozenset()) -> None:
    """Bit by bit, and at the same step."""
    ours, theirs = checksums(first, without=without), checksums(second, without=without)
    differing = [name for name in ours if ours[name] != theirs.get(name)]
    assert not differing, differing
    assert ours.keys() == theirs.keys()
    assert first.step == second.step


def assert_close(state: State, reference: State, *, relative: float = 1e-6) -> None:
    """Every variable within ``relative`` of its largest value (or one float32 step at 1.0, for
    variables that are nearly zero).
    """
    assert state.arrays.keys() == reference.arrays.keys()
    for name, wanted in reference.arrays.items():
        if wanted.dtype.kind != "f":
            assert np.array_equal(state.arrays[name], wanted), name
            continue
        difference = float(
            np.max(np.abs(state.arrays[name].astype(np.float64) - wanted), initial=0.0)
        )
        allowed = 1.2e-7 + relative * float(np.max(np.abs(wanted), initial=0.0))
        assert difference <= allowed, (name, difference, allowed)


def changed(before: State, after: State) -> list[str]:
    """Names of the arrays that differ."""
    old, new = checksums(before), checksums(after)
    return sorted(name for name in new if new[name] != old.get(name))
