"""What is said of a trial, and which ways on are offered?"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.driver.proof import Proof, judged, unproved
from orchestrator.errors import GraphRefused


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


@pytest.mark.parametrize(
    ("proof", "words", "ways"),
    [
        (said(seam("sum")), "sums over rows", ["--gradient-scale"]),
        (said(seam("sum"), means=1), "sums over rows", []),  # it would spoil the other
        (
            said(seam("mean", summed=True), config={"gradient_scale": "sum"}),
            "is a mean over rows",
            ["--gradient-scale"],
        ),
        (said(seam("counts")), "weighted by 0.3, 0.7", ["--weight-by"]),
        (said(seam("counts"), seam("none")), "too small to tell", ["--weight-by"]),
        (said(seam("none")), "no weighted sum", []),
        (said(seam("sum", role="update")), "that aren't gradients", []),
        (said(seam("none", role="update", trains=True)), "trains these weights", []),
        (said(seam("none"), seam("sum")), "no weighted sum", []),
        (said(variables=[["v", 0.5]]), "something beside the gradients", []),
    ],
)
def test_difference_is_told_by_its_look_with_the_ways_that_help(
    proof: Proof, words: str, ways: list[str]
) -> None:
    assert proof.verdict == "differs"
    assert words in proof.told
    assert offered(proof) == ways + ALWAYS
    with pytest.raises(GraphRefused) as refused:
        proof.refuse("gs://b/run")
    assert refused.value.message.startswith("gs://b/run isn't trained by a group: ")
    again = pickle.loads(pickle.dumps(refused.value))
    assert again.details["proof"]["verdict"] == "differs"
    assert proof.record().told.startswith("accepted: ")


def test_equal_step_says_how_many_of_its_batches_were_tried_and_what_was_excused() -> None:
    found = said(seam("none", excused=True))
    assert found.verdict == "equal"
    assert "2 of a step's 16 batches" in found.told
    assert "but for 1 that follow from statistics" in found.told
    assert found.record().told == found.told
    found.refuse("s")


def test_step_with_the_same_batch_in_all_slots_says_what_it_cannot_show() -> None:
    found = said(how="same batch", reason="x:0 can't be joined")
    assert found.verdict == "same batch"
    assert "x:0 can't be joined" in found.told
    assert "can't show whether the loss is a mean or a sum" in found.told


def test_step_that_could_not_be_tried_says_why_and_stops_nothing() -> None:
    for found in (said(how="none", reason="out of memory"), unproved("out of memory")):
        assert found.verdict == "unproved"
        assert found.told.endswith("out of memory")
        found.refuse("s")


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
