"""A fuzzed graph gives a clean error or an answer, never a crash, a hang or a changed graph."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from random import Random

import pytest

from tests.graph.fuzzing import Fuzzer, FuzzFailure, exercise, mutate, mutate_bytes, seed_graphs

pytestmark = pytest.mark.turns(6)

SEEDS = seed_graphs()
ROUNDS = 40
"""Mutations of each seed in the short run, about 20 s in all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_exercise_of_a_sound_graph_gives_answers(name: str) -> None:
    assert exercise(SEEDS[name]) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_exercise_of_mutated_graphs_gives_answers_or_clean_errors(name: str) -> None:
    for number in range(ROUNDS):
        data = mutate(SEEDS[name], Random(f"{name} {number}"))
        try:
            exercise(data)
        except Exception as error:
            raise FuzzFailure(data, number) from error


def test_exercise_of_every_truncation_gives_answers_or_clean_errors() -> None:
    data = SEEDS["mlp"]
    for length in range(0, len(data), 997):
        exercise(data[:length])


def test_mutate_of_a_seed_is_reproducible() -> None:
    data = SEEDS["mlp"]
    assert mutate(data, Random(7)) == mutate(data, Random(7)) != data
    assert mutate_bytes(data, Random(7)) == mutate_bytes(data, Random(7))


@pytest.mark.fuzz
@pytest.mark.timeout(0)
def test_exercise_under_coverage_guided_fuzzing_holds(tmp_path: Path) -> None:
    seconds = float(os.environ.get("TFRESUME_FUZZ_SECONDS", "600"))
    fuzzer = Fuzzer(int(os.environ.get("TFRESUME_FUZZ_SEED", "0")) or os.getpid())
    try:
        fuzzer.run(seconds)
    except FuzzFailure as failure:
        path = tmp_path / "failure.meta.gz"
        path.write_bytes(gzip.compress(failure.data))
        pytest.fail(f"{failure}; the input is in {path}: {failure.__cause__!r}")
    assert fuzzer.runs
