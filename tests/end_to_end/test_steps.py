"""Do runs end, save and go on whose graph's own counter isn't moved by one in each run?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests import forked
from tests.end_to_end import step_graphs
from tests.end_to_end.commands import assert_close, plain_variables, resumed, tfresume

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]

MODULE = "tests.end_to_end.step_graphs"
Made = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The checkpoint of a kind of graph, made once."""
    known: dict[tuple[str, ...], Path] = {}

    def make(*words: str) -> Path:
        if words not in known:
            kind, *rest = words
            done = forked.run(MODULE, "make", kind, tmp_path_factory.mktemp(kind), *rest)
            assert done.returncode == 0, done.stderr[-3000:]
            known[words] = Path(done.stdout.splitlines()[-1])
        return known[words]

    return make


def by_plain_tensorflow(
    prefix: Path, scratch: Path, runs: Sequence[Mapping[str, np.ndarray]], *names: str
) -> dict[str, np.ndarray]:
    """The variables after plain TensorFlow's own runs of these operations in turn."""
    feeds, target = scratch / "runs.npz", scratch / "plain.npz"
    np.savez(
        feeds,
        **{  # type: ignore[arg-type]
            f"{number}|{name}": value
            for number, each in enumerate(runs)
            for name, value in each.items()
        },
    )
    done = forked.run(MODULE, "plain", prefix, target, feeds, *names)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(target) as arrays:
        return {name: arrays[name] for name in arrays.files}


def saved(output: Path) -> list[str]:
    """Names of the committed checkpoints, in the order of their saves."""
    manifests = [json.loads(path.read_text()) for path in output.glob("a*-g*/*.manifest.json")]
    manifests.sort(key=lambda each: (each["generation"], each["step"], each["position"]))
    return [f"{each['name']}-{each['step']}" for each in manifests]


def position(checkpoint: str) -> int:
    return int(json.loads(Path(f"{checkpoint}.manifest.json").read_text())["position"])


def runs_of(
    count: int, workers: int, make: Callable[[int], Mapping[str, np.ndarray]] = step_graphs.batch
) -> list[dict[str, np.ndarray]]:
    """What one process is fed in so many runs to see what the workers see."""
    return [step_graphs.joined(number * workers, workers, make) for number in range(count)]


WORKERS = pytest.mark.parametrize("workers", [1, 2])


@WORKERS
def test_step_that_two_train_operations_count_is_saved_and_ends_past_its_numbers(
    made: Made, tmp_path: Path, ray_address: str, workers: int
) -> None:
    source, out = made("duel"), tmp_path / "out"
    result = resumed(
        *(source, "--output", out, "--workers", str(workers), "--address", ray_address),
        *("--train-op", "one", "--train-op", "two", "--input", f"{MODULE}:batches"),
        *("--until-step", "11", "--save-steps", "3", "--max-to-keep", "0"),
    )
    assert (result["status"], result["final_step"], result["incidents"]) == ("done", 12, [])
    assert saved(out) == [f"model.ckpt-{step}" for step in (4, 6, 10, 12)]
    assert position(result["checkpoint"]) == 12 * workers
    theirs = by_plain_tensorflow(source, tmp_path, runs_of(12, workers), "one", "two")
    assert_close(plain_variables(result["checkpoint"], tmp_path), theirs)


@pytest.mark.parametrize("how", [(), ("functions",)], ids=["frames", "functions"])
@WORKERS
def test_step_that_loss_scaling_skips_is_neither_counted_nor_taken(
    made: Made, tmp_path: Path, ray_address: str, workers: int, how: tuple[str, ...]
) -> None:
    source, out = made("skips", *how), tmp_path / "out"
    result = resumed(
        *(source, "--output", out, "--workers", str(workers), "--address", ray_address),
        *("--train-op", "train", "--input", f"{MODULE}:some_infinite", "--no-prove"),
        *("--until-step", "10", "--save-steps", "4", "--max-to-keep", "0"),
    )
    skipped = len(step_graphs.INFINITE) // workers
    assert (result["status"], result["final_step"], result["incidents"]) == ("done", 10, [])
    assert saved(out) == [f"model.ckpt-{step}" for step in (4, 8, 10)]
    assert position(result["checkpoint"]) == (10 + skipped) * workers
    runs = runs_of(10 + skipped, workers, step_graphs.with_infinity)
    theirs = by_plain_tensorflow(source, tmp_path, runs, "train")
    assert_close(plain_variables(result["checkpoint"], tmp_path), theirs)


@WORKERS
def test_step_that_is_counted_where_gathered_gradients_are_applied_is_saved_and_ends(
    made: Made, tmp_path: Path, ray_address: str, workers: int
) -> None:
    source, out = made("gathers"), tmp_path / "out"
    result = resumed(
        *(source, "--output", out, "--workers", str(workers), "--address", ray_address),
        *("--train-op", "train", "--input", f"{MODULE}:batches"),
        *("--until-step", "5", "--save-steps", "2", "--max-to-keep", "0"),
    )
    assert (result["status"], result["final_step"], result["incidents"]) == ("done", 5, [])
    assert saved(out) == [f"model.ckpt-{step}" for step in (2, 4, 5)]
    runs = 5 * step_graphs.GATHERED
    assert position(result["checkpoint"]) == runs * workers
    theirs = by_plain_tensorflow(source, tmp_path, runs_of(runs, workers), "train")
    assert_close(plain_variables(result["checkpoint"], tmp_path), theirs)


@WORKERS
def test_counter_that_stands_still_is_saved_by_time_and_goes_on_at_the_exact_position(
    made: Made, tmp_path: Path, ray_address: str, workers: int
) -> None:
    source, out = made("stands"), tmp_path / "out"
    words = (
        *(source, "--output", out, "--workers", str(workers), "--address", ray_address),
        *("--train-op", "train", "--input", f"{MODULE}:unhurried", "--max-to-keep", "0"),
        *("--save-secs", "0.1", "--no-prove"),
    )
    result = resumed(*words, "--until-step", "1")
    assert (result["status"], result["final_step"], result["incidents"]) == ("done", 1, [])
    names = saved(out)
    first, further, last = names[0], names[1:-1], names[-1]
    assert (first, last) == ("model.ckpt-0", "model.ckpt-1")
    assert further, names
    assert all(name.startswith("model.ckpt.at") for name in further), names
    # As if the run had died before its last save: the newest of those that have one step counts
    for path in out.glob("a*-g*/model.ckpt-1.manifest.json"):
        path.unlink()
    (out / "checkpoint").unlink()
    again = resumed(*words, "--until-step", "2")
    assert (again["status"], again["start_step"], again["final_step"]) == ("done", 0, 2)
    runs = 2 * step_graphs.STANDS
    assert position(again["checkpoint"]) == runs * workers
    theirs = by_plain_tensorflow(source, tmp_path, runs_of(runs, workers), "train")
    assert_close(plain_variables(again["checkpoint"], tmp_path), theirs, 1e-5)


@pytest.mark.parametrize("how", [(), ("functions",)], ids=["frames", "functions"])
def test_steps_inside_of_a_loop_are_counted_as_the_variable_has_them(
    made: Made, tmp_path: Path, ray_address: str, how: tuple[str, ...]
) -> None:
    source, out = made("loops", *how), tmp_path / "out"
    words = (source, "--train-op", "train", "--input", f"{MODULE}:batches")
    result = resumed(
        *(*words, "--output", out, "--workers", "1", "--address", ray_address),
        *("--until-step", "10", "--save-steps", "5", "--max-to-keep", "0"),
    )
    assert (result["status"], result["final_step"], result["incidents"]) == ("done", 12, [])
    assert saved(out) == [f"model.ckpt-{step}" for step in (6, 12)]
    theirs = by_plain_tensorflow(source, tmp_path, runs_of(4, 1), "train")
    assert_close(plain_variables(result["checkpoint"], tmp_path), theirs)

    refused = tfresume("check", *words, "--workers", "2", "--json")
    assert refused.code == 2
    (why,) = [
        each["message"] for each in refused.json["problems"] if each["code"] == "group-refused"
    ]
    assert ("inside of a function" if how else "loop") in why
