"""What is said of a trial, and which ways on are offered?"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.driver.proof import Proof, judged, unproved
from orchestrator.errors import GraphRefused
from orchestrator.store.run.run_record import Proved


def seam(pattern: str = "none", **values: Any) -> dict[str, Any]:
    weights = {"sum": [1.0, 1.0], "mean": [0.5, 0.5], "counts": [0.3, 0.7]}.get(pattern)
    known = {"tensor": "gradients/w:0", "role": "gradient", "summed": False, "kind": "unknown"}
    more = {"variables": ["w"], "relative": 0.5, "pattern": pattern, "weights": weights}
    return known | more | {"excused": False} | values


def said(*seams: dict[str, Any], **values: Any) -> Proof:
    found = {"how": "joint", "reason": "", "seams": list(seams), "variables": [], "means": 0}
    found["apart"] = []
    asked = {"source": "s", **values.pop("config", {})}
    counted = {"slots": 2, "compared": [3, 5]}
    return judged(found | counted | values, RunConfig.model_validate(asked), batches_per_step=16)


def offered(proof: Proof) -> list[str]:
    """The first words of each way on."""
    return [remedy.partition(" ")[0] for remedy in proof.remedies]


ALWAYS = ["--workers", "--accept-differences", "--no-prove"]


TRIED = "2 of a step's 16 batches and one process with all their rows"
DIFFER = f"{TRIED} give different gradients: 1 of 3 differ, of w (by 0.5)"
UNMADE = "no weighted sum of the batches' gradients is one process's: the loss isn't made of what each batch gives"
MEANS = "the group's sum is 2 times one process's: the loss is a mean over rows"
SUMS = "one process's are 2 times the group's mean: the loss sums over rows"
COUNTS = "the loss divides by a count that follows from each batch's data or rows"


@pytest.mark.parametrize(
    ("tried", "told", "ways"),
    [
        (lambda: said(seam("sum")), f"{DIFFER}; {SUMS}", ["--gradient-scale"]),
        (lambda: said(seam("sum"), means=1), f"{DIFFER}; {SUMS}", []),  # it would spoil the other
        (
            lambda: said(seam("mean", summed=True), config={"gradient_scale": "sum"}),
            f"{DIFFER}; {MEANS}",
            ["--gradient-scale"],
        ),
        (lambda: said(seam("mean", summed=True)), f"{DIFFER}; {MEANS}", []),
        (lambda: said(seam("mean", summed=True), seam("mean"), compared=[1, 1]), UNMADE, []),
        (
            lambda: said(seam("counts")),
            f"{DIFFER}; one process's are a mean of the batches' weighted by 0.3, 0.7: {COUNTS}",
            ["--weight-by"],
        ),
        (
            lambda: said(seam("none"), seam("counts", variables=["v"])),
            f"{TRIED} give different gradients: 2 of 3 differ, of w (by 0.5), v (by 0.5); "
            f"one process's are a mean of the batches' weighted by 0.3, 0.7 (some are too small to tell): {COUNTS}",
            ["--weight-by"],
        ),
        (lambda: said(seam("none", variables=[])), f"of gradients/w:0 (by 0.5); {UNMADE}", []),
        (
            lambda: said(seam("none", variables=["a", "b"])),
            f"1 of 3 differ, of a, b (by 0.5); {UNMADE}",
            [],
        ),
        (lambda: said(seam("none"), seam("sum")), UNMADE, []),
        (lambda: said(seam("counts"), seam("sum")), UNMADE, []),
        (
            lambda: said(seam("sum", role="update")),
            f"{DIFFER}; updates that aren't gradients add up over rows (counts, sums) or take the rows themselves, "
            "and a group takes the mean of the batches'",
            [],
        ),
        (
            lambda: said(seam("none", role="update", trains=True)),
            f"{DIFFER}; what trains these weights without gradients isn't a mean over rows, "
            "and a group takes the mean of the batches'",
            [],
        ),
        (
            lambda: said(
                seam("sum", variables=["a", "b", "c"], relative=0.123),
                seam("none", excused=True),
                variables=[["v", 0.5], ["w", 0.25]],
            ),
            f"1 of 3 differ, of a, b and 1 more (by 0.1), and after one step v, w; {SUMS}",
            ["--gradient-scale"],
        ),
        (
            lambda: said(variables=[[name, 0.5] for name in "abcde"]),
            f"{TRIED} give the same gradients and different variables: a (by 0.5 of its movement), "
            "b (by 0.5 of its movement), c (by 0.5 of its movement), d (by 0.5 of its movement) and 1 more; "
            "something beside the gradients reaches them",
            [],
        ),
        (
            lambda: said(variables=[["v", 0.5]], how="same batch", slots=16),
            "16 batches, all the same, and that one batch give the same gradients and different variables: "
            "v (by 0.5 of its movement); something beside the gradients reaches them",
            [],
        ),
    ],
)
def test_difference_is_told_by_its_look_with_the_ways_that_help(
    tried: Callable[[], Proof], told: str, ways: list[str]
) -> None:
    proof = tried()
    assert proof.verdict == "differs"
    assert proof.told.endswith(told)
    assert offered(proof) == ways + ALWAYS
    with pytest.raises(GraphRefused) as refused:
        proof.refuse("gs://b/run")
    assert refused.value.message == f"gs://b/run isn't trained by a group: {proof.told}"
    assert refused.value.remedy == "Ways on: " + "; ".join(proof.remedies)
    again = pickle.loads(pickle.dumps(refused.value))
    assert again.details["proof"] == proof.as_dict()
    assert proof.record() == Proved(verdict="differs", told=f"accepted: {proof.told}")


def test_ways_on_are_flags_with_what_they_do() -> None:
    alone = "--workers 1 --batches-per-step 1 trains as one process, on the batches that the input gives"
    assert said(seam("sum")).remedies == (
        "--gradient-scale sum adds them up",
        alone,
        "--accept-differences trains in a group all the same, and every status and report says so",
        "--no-prove skips this where putting rows of batches together isn't what one process would be fed",
    )
    summed = said(seam("mean", summed=True), config={"gradient_scale": "sum"})
    assert summed.remedies[0] == "--gradient-scale mean takes their mean"
    assert said(seam("counts")).remedies[0] == (
        "--weight-by TENSOR weights each batch by the count that the graph computes"
    )
    assert said(apart=(["r:0"], ["v"])).remedies == (
        "--feed r:0=VALUE gives all batches one value",
        alone,
    )


@pytest.mark.parametrize(
    ("tensors", "variables", "told"),
    [
        (["r:0"], ["v"], "r:0 is fed differently from batch to batch, and v follows from what"),
        (
            ["r:0", "s:0"],
            ["v", "w"],
            "r:0, s:0 are fed differently from batch to batch, and v, w follow from what",
        ),
    ],
)
def test_workers_that_would_drift_apart_are_told_by_what_they_are_fed(
    tensors: list[str], variables: list[str], told: str
) -> None:
    found = said(seam("sum"), apart=(tensors, variables))
    assert found.verdict == "differs"
    assert found.told == f"workers would drift apart: {told} each worker is fed itself"
    assert found.variables == tuple((name, 1.0) for name in variables)
    assert found.seams == ()


def test_what_differs_is_all_there_as_plain_data() -> None:
    one, other = seam("sum"), seam("none", excused=True)
    found = said(one, other, variables=[["v", 0.5]])
    assert found.seams == (one,)
    assert found.variables == (("v", 0.5),)


@pytest.mark.parametrize(
    ("tried", "verdict", "told"),
    [
        (
            lambda: said(slots=16, compared=[1, 1]),
            "equal",
            "proved: 16 batches give what one process with all their rows gives: 1 seam and 1 variable agree",
        ),
        (
            lambda: said(seam("none", excused=True), compared=[2, 0]),
            "equal",
            "proved: 2 of a step's 16 batches give what one process with all their rows gives: 2 seams and 0 variables agree, "
            "but for 1 that follow from statistics which each batch takes of its own rows (batch norm, moving averages), "
            "as everywhere in data-parallel training",
        ),
        (
            lambda: said(how="same batch", reason="x:0 can't be joined"),
            "same batch",
            "proved only with one batch in the place of 2 of a step's 16 batches (x:0 can't be joined): 3 seams and 5 variables agree; "
            "that can't show whether the loss is a mean or a sum over rows, counts rows by their data, or compares rows with each other",
        ),
        (
            lambda: said(how="none", reason="out of memory"),
            "unproved",
            "it wasn't proved that a group computes what one process would: out of memory",
        ),
    ],
)
def test_step_in_which_nothing_differs_says_what_was_shown_and_stops_nothing(
    tried: Callable[[], Proof], verdict: str, told: str
) -> None:
    proof = tried()
    assert (proof.verdict, proof.told, proof.remedies) == (verdict, told, ())
    assert proof.record() == Proved(verdict=proof.verdict, told=told)
    proof.refuse("s")


def test_reason_of_ones_own_is_told_as_that_of_a_trial() -> None:
    assert unproved("out of memory") == said(how="none", reason="out of memory")


@pytest.mark.parametrize("how", ["none", "same batch"])
def test_what_a_reason_quotes_is_one_redacted_line_of_bounded_length(how: str) -> None:
    """It goes into run.json, the journal and every status."""
    error = "ValueError: s3://AKIA1:geheim123@bucket/x is gone " + "0.25 " * 10_000 + "\nat line 3"
    found = judged(
        {"how": how, "reason": error, "seams": [], "variables": [], "slots": 2, "compared": [1, 1]}
        | {"apart": []},
        RunConfig(source="s"),
        batches_per_step=2,
    )
    assert "geheim123" not in found.told
    assert "is gone" in found.told
    assert "at line 3" not in found.told
    assert len(found.told) < 600
