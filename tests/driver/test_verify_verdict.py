"""What do the distances between two runs say, at the very bounds and in which words?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import RunConfig
from orchestrator.driver.proof import Proof, Verdict
from orchestrator.driver.verify_report import Comparison, VerifyReport
from orchestrator.driver.verify_verdict import LUCK, ORDER, ROOM, report
from orchestrator.graph.worker_graph import DenseSeam, InputPort, TrainTarget, WorkerGraph

BOUND = 0.25
"""The tolerance: sums of it and of what follows are exact."""


def graph_of(*, statistics: tuple[str, ...] = (), pulled: bool = False, **fields: Any) -> Any:
    seams = tuple(DenseSeam(name, "float32", (3,), "update") for name in statistics)
    gradient = DenseSeam("gradients/w", "float32", (3,))
    port = InputPort("p:0", "b:0", "float32", None, "queue", pull="b:0" if pulled else None)
    targets = (TrainTarget("Adam", dense=(gradient, *seams)),)
    return WorkerGraph(b"", b"", targets, (port,), (), **fields)


PLAIN = graph_of()
NOISY = graph_of(random_nodes=("dropout", "noise"))
LUCKY = graph_of(random_nodes=("dropout",), stateful_random=("sampler",))
MOVING = graph_of(statistics=("bn/mean", "bn/variance"))
PULLED = graph_of(pulled=True)


def distances(*apart: float) -> list[dict[str, Any]]:
    return [{"name": name, "relative": far} for name, far in zip("wv", apart, strict=False)]


def answer(**told: Any) -> dict[str, Any]:
    """A baseline's: all is equal but for what is told."""
    equal = {"slots": distances(0.0), "bare": distances(0.0), "save": distances(0.0)}
    return {**equal, "moved": 3, "reason": "", **told}


def judged(
    found: dict[str, Any],
    graph: WorkerGraph = PLAIN,
    *,
    held: dict[str, Any] | None = None,
    proof: Verdict | None = None,
    **config: object,
) -> VerifyReport:
    return report(
        found,
        graph,
        RunConfig.model_validate({"source": "gs://b/run", "workers": 2, **config}),
        steps=4,
        start_step=500,
        tolerance=BOUND,
        held=held,
        proof=proof and Proof(proof, ""),
    )


def names(found: VerifyReport) -> list[str]:
    return [each.name for each in found.comparisons]


def joint(found: VerifyReport) -> Comparison:
    return found.comparisons[1]


def test_report_tells_what_was_compared_how_many_variables_and_how_far_apart() -> None:
    found = judged(answer(slots=[], bare=distances(0.125, 0.0), save=distances(0.0, 0.5)))
    assert found.comparisons == (
        Comparison(
            "the group and one process with the same batches, bit for bit", True, 0.0, name="slots"
        ),
        Comparison("the group and one bare TensorFlow process", True, BOUND, 2, 0.125, ()),
        Comparison(
            "with and without a save and a restart in the middle, bit for bit",
            *(False, 0.0, 2, 0.5, (("v", 0.5),)),
            name="save",
        ),
    )
    told = found.as_dict()
    assert (told["verdict"], told["source"], told["workers"]) == ("differs", "gs://b/run", 2)
    assert (told["steps"], told["start_step"], told["moved"]) == (4, 500, 3)
    assert [each["name"] for each in told["comparisons"]] == ["slots", "joint", "save"]


def test_what_could_not_be_compared_says_why() -> None:
    found = judged(answer(slots=None, bare=None, reason="the batches can't be joined"))
    assert found.comparisons[:2] == (
        Comparison(
            "the group and one process with the same batches, bit for bit",
            *(None, 0.0),
            reason="the batches can't be joined",
            name="slots",
        ),
        Comparison(
            "the group and one bare TensorFlow process",
            *(None, BOUND),
            reason="the batches can't be joined",
        ),
    )
    found = judged(answer(slots=None, slots_reason="nccl adds in an order of its own"))
    assert found.comparisons[0].reason == "nccl adds in an order of its own"
    found = judged(answer(save=None))
    assert (names(found), found.verdict) == (["slots", "joint"], "explained")


@pytest.mark.parametrize(
    ("graph", "reason", "told"),
    [
        (PULLED, "", "the graph's own pipeline decides which batches come in which order"),
        (PULLED, "they have no rows", "they have no rows"),
        (PLAIN, "they have no rows", "they have no rows"),
        (PLAIN, "", ""),
    ],
)
def test_batches_that_cannot_be_joined_have_the_reason_that_is_known(
    graph: WorkerGraph, reason: str, told: str
) -> None:
    assert joint(judged(answer(bare=None, reason=reason), graph)).reason == told


@pytest.mark.parametrize(
    ("apart", "agrees", "beyond"),
    [(BOUND, True, ()), (BOUND + 0.125, False, ()), (0.75, False, ()), (0.875, False, ("w",))],
)
def test_statistics_excuse_up_to_what_one_slots_batches_account_for(
    apart: float, agrees: bool, beyond: tuple[str, ...]
) -> None:
    found = judged(answer(bare=distances(apart), shares={"w": 0.5 / ROOM}), MOVING)
    assert (joint(found).agrees, joint(found).beyond) == (agrees, beyond)
    assert found.verdict == ("agrees" if agrees else "differs" if beyond else "explained")
    redrawn = answer(bare=distances(apart), redrawn={"w": 0.5 / LUCK})
    assert joint(judged(redrawn, NOISY)).beyond == beyond


def test_answer_without_shares_excuses_nothing() -> None:
    found = judged(answer(bare=distances(0.5)), MOVING)
    assert (joint(found).beyond, found.verdict) == (("w",), "differs")


@pytest.mark.parametrize(
    ("apart", "rounded", "relative"),
    [(BOUND, (), BOUND), (0.375, ("w",), 0.0), (0.75, ("w",), 0.0), (0.875, (), 0.875)],
)
def test_rounding_is_what_another_order_of_the_rows_shows_and_no_more(
    apart: float, rounded: tuple[str, ...], relative: float
) -> None:
    found = judged(answer(bare=distances(apart), turned={"w": 0.5 / ORDER}), proof="equal")
    assert (joint(found).rounded, joint(found).relative) == (rounded, relative)
    assert joint(found).compared == 1


def test_proof_that_differs_decides() -> None:
    assert judged(answer(), proof="equal").verdict == "agrees"
    found = judged(answer(), proof="differs")
    assert (found.verdict, found.exit_code) == ("differs", 1)


def test_order_that_the_graph_leaves_to_luck_excuses_a_group_that_isnt_exact() -> None:
    assert judged(answer(slots=distances(0.5), bare=None), PULLED).verdict == "explained"
    assert judged(answer(slots=distances(0.5), bare=None), PLAIN).verdict == "differs"
    assert judged(answer(save=distances(0.5), bare=None), PULLED).verdict == "differs"


def test_hidden_state_that_was_not_held_still_bounds_nothing() -> None:
    assert judged(answer(bare=distances(0.5)), LUCKY).verdict == "explained"
    assert judged(answer(bare=distances(0.5)), NOISY).verdict == "differs"


@pytest.mark.parametrize(
    ("first", "shown"),
    [
        ({}, ["joint held still"]),
        ({"slots": distances(0.5)}, ["slots held still", "joint held still"]),
        ({"save": distances(0.5)}, ["joint held still", "save held still"]),
    ],
)
def test_what_was_exact_with_random_numbers_is_not_shown_without_them(
    first: dict[str, Any], shown: list[str]
) -> None:
    found = judged(answer(bare=distances(0.5), **first), LUCKY, held=answer())
    assert (names(found)[3:], found.verdict) == (shown, "explained")


RANDOM = (
    "{} random operations (dropout, noise, samplers), such as dropout: tfresume draws by the number of the "
    "batch, bare TensorFlow by a state of its own"
)
HIDDEN = (
    "1 of them, such as sampler, have no form that draws by a number: each process draws from a hidden state, "
    "which a restart begins anew"
)
ORDERED = "the order of the batches that the graph's own input pipeline makes"
STATISTICS = (
    "2 moving statistics, such as bn/mean: averaged over the step's batches, where one process "
    "takes them over all rows at once"
)
REFUSED = graph_of(statistics=("bn/mean",), group_refused="it reads a queue")


@pytest.mark.parametrize(
    ("graph", "workers", "batches", "causes"),
    [
        (PLAIN, 2, None, ()),
        (NOISY, 2, None, (RANDOM.format(2),)),
        (LUCKY, 2, None, (RANDOM.format(2), HIDDEN)),
        (PULLED, 2, None, (ORDERED,)),
        (MOVING, 2, None, (STATISTICS,)),
        (MOVING, 1, None, ()),
        (MOVING, 2, 1, ()),
        (MOVING, 1, 2, (STATISTICS,)),
        (REFUSED, 2, None, ()),
    ],
)
def test_causes_of_a_difference_are_those_that_the_graph_has(
    graph: WorkerGraph, workers: int, batches: int | None, causes: tuple[str, ...]
) -> None:
    config: Any = {"workers": workers, "batches_per_step": batches}
    assert judged(answer(bare=distances(0.5)), graph, **config).causes == causes
    assert judged(answer(), graph, **config).causes == (), "where all agrees none is needed"


def test_input_function_that_depends_on_the_number_of_workers_is_a_cause() -> None:
    found = judged(answer(input="x:0 of batch 3"))
    assert (found.verdict, found.causes) == (
        "explained",
        (
            "the input function: x:0 of batch 3 is not the same for one worker as for 2; it must follow from its number",
        ),
    )


def test_graph_that_trains_on_one_worker_was_compared_on_one() -> None:
    assert judged(answer(), REFUSED, workers=4).workers == 1
    assert judged(answer(), PLAIN, workers=4).workers == 4
