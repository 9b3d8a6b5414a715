"""``verify`` finds a faithful resumption faithful, and names what differs where it isn't."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from launch.text.verify_text import render_verify
from orchestrator.config import RunConfig, parse_config
from orchestrator.driver.proof import Proof
from orchestrator.driver.startup import Plan, make_plan, start_point
from orchestrator.driver.verify import Asking, _held_still, verify
from orchestrator.driver.verify_report import VerifyReport
from orchestrator.driver.verify_verdict import TOLERANCE, report
from orchestrator.errors import ConfigError
from orchestrator.graph.random.deterministic import without_chance
from orchestrator.graph.worker_graph import DenseSeam, InputPort, TrainTarget, WorkerGraph
from orchestrator.store.objects.location import open_location

pytestmark = pytest.mark.turns(32, "whole runs")

PLAIN = WorkerGraph(b"", b"", (TrainTarget("Adam"),), (), ())
TWO = RunConfig.model_validate({"source": "run", "workers": 2})


RATE = "GradientDescent/learning_rate:0"
NOISY = WorkerGraph(
    b"", b"", (TrainTarget("Adam"),), (), (), random_nodes=("dropout/RandomUniform",)
)
MOVING = WorkerGraph(
    b"",
    b"",
    (TrainTarget("Adam", dense=(DenseSeam("bn/mean", "float32", (3,), "update"),)),),
    (),
    (),
)


LUCKY = WorkerGraph(
    b"", b"", (TrainTarget("Adam"),), (), (), stateful_random=("LogUniformCandidateSampler",)
)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("swap_optimizer", "adam"),
        ("rename", {"a": "b"}),
        ("grow", {"table": 30}),
        ("restore_only", ["w"]),
        ("reinit", ["w"]),
        ("reset_slots", True),
        ("reset_step", 0),
    ],
)
def test_verify_with_an_edit_that_no_saver_restores_is_refused_with_the_way_on(
    flag: str, value: object
) -> None:
    config = RunConfig.model_validate({"source": "nowhere", flag: value})
    with pytest.raises(ConfigError) as refused:
        verify(config)
    assert refused.value.message.endswith(f"--{flag.replace('_', '-')}")
    assert "--steps 1" in (refused.value.remedy or "")


def _distances(relative: float | None) -> list[dict[str, Any]] | None:
    return None if relative is None else [{"name": "w", "largest": relative, "relative": relative}]


def _measured(
    joint: float | None,
    save: float | None = 0.0,
    *,
    slots: float | None = 0.0,
    reason: str = "",
    share: float = 0.0,
    **more: Any,
) -> dict[str, Any]:
    found = {
        "slots": _distances(slots),
        "bare": _distances(joint),
        "save": _distances(save),
        "moved": 3,
        "reason": reason,
    }
    return found | {"shares": {"w": share}, "redrawn": {}, "input": ""} | more


def _judged(joint: Any, save: Any = 0.0, graph: WorkerGraph = PLAIN, **more: Any) -> VerifyReport:
    held, proof = more.pop("held", None), more.pop("proof", None)
    return report(
        _measured(joint, save, **more),
        graph,
        TWO,
        steps=4,
        start_step=3,
        tolerance=TOLERANCE,
        held=held,
        proof=proof,
    )


def _named(found: VerifyReport, name: str) -> Any:
    (comparison,) = [each for each in found.comparisons if each.name == name]
    return comparison


def test_report_of_runs_within_the_tolerance_agrees() -> None:
    found = _judged(TOLERANCE / 2, 0.0)
    assert (found.verdict, found.exit_code, found.causes) == ("agrees", 0, ())
    assert [(comparison.name, comparison.agrees) for comparison in found.comparisons] == [
        *(("slots", True), ("joint", True), ("save", True))
    ]


def test_report_of_a_bare_run_that_differs_without_a_known_cause_fails() -> None:
    found = _judged(0.5, 0.0)
    assert (found.verdict, found.exit_code) == ("differs", 1)
    assert _named(found, "joint").worst == (("w", 0.5),)


@pytest.mark.parametrize("graph", [PLAIN, NOISY, MOVING], ids=["plain", "random", "statistics"])
def test_report_of_a_group_that_differs_by_a_bit_from_one_process_fails_whatever_else_is_known(
    graph: WorkerGraph,
) -> None:
    found = _judged(
        0.0,
        graph=graph,
        slots=1e-12,
        share=9.0,
        held=_measured(0.0, None) if graph is NOISY else None,
    )
    assert (found.verdict, found.exit_code) == ("differs", 1)
    assert _named(found, "slots").worst == (("w", 1e-12),)


def test_report_of_a_hidden_state_excuses_what_is_exact_once_random_numbers_are_held_still() -> (
    None
):
    found = _judged(0.5, 0.3, LUCKY, slots=0.4, held=_measured(0.0, 0.0))
    assert (found.verdict, found.exit_code) == ("explained", 0)
    assert any(
        "hidden state" in cause and "LogUniformCandidateSampler" in cause for cause in found.causes
    )
    assert [each.name for each in found.comparisons] == [
        *("slots", "joint", "save"),
        *("slots held still", "joint held still", "save held still"),
    ]


@pytest.mark.parametrize("wrong", ["slots", "save", "joint"])
def test_report_of_a_hidden_state_excuses_nothing_that_differs_without_it(wrong: str) -> None:
    held = _measured(0.0, 0.0) | {"bare" if wrong == "joint" else wrong: _distances(0.1)}
    assert _judged(0.5, 0.3, LUCKY, slots=0.4, held=held).verdict == "differs"


def test_report_of_an_input_function_that_depends_on_the_number_of_workers_names_the_batch() -> (
    None
):
    found = _judged(0.0, input="x:0 of batch 3")
    assert (found.verdict, found.exit_code) == ("explained", 0)
    assert "x:0 of batch 3" in found.causes[0]


def test_report_of_a_save_that_changes_something_fails_whatever_else_is_known() -> None:
    assert _judged(0.5, 1e-12, NOISY, held=_measured(0.0, None)).verdict == "differs"


def test_report_of_random_numbers_that_agree_once_held_still_is_explained_and_names_them() -> None:
    found = _judged(0.5, 0.0, NOISY, held=_measured(TOLERANCE / 2, None))
    assert (found.verdict, found.exit_code) == ("explained", 0)
    assert "dropout/RandomUniform" in found.causes[0]
    assert [comparison.agrees for comparison in found.comparisons] == [True, False, True, True]


def test_report_of_random_numbers_does_not_excuse_what_differs_without_them() -> None:
    found = _judged(0.5, 0.0, NOISY, held=_measured(0.4, None))
    assert (found.verdict, found.exit_code) == ("differs", 1)
    assert _named(found, "joint held still").beyond == ("w",)


@pytest.mark.parametrize(("redrawn", "verdict"), [(0.2, "explained"), (0.1, "differs")])
def test_report_of_random_numbers_that_cannot_be_held_still_excuses_no_more_than_others_would_do(
    redrawn: float, verdict: str
) -> None:
    held = {  # type: ignore[var-annotated]
        "slots": None,
        "bare": None,
        "save": None,
        "shares": {},
        "reason": "sampler can't be held still",
    }
    found = _judged(0.5, 0.0, NOISY, held=held, redrawn={"w": redrawn})
    assert found.verdict == verdict
    assert _named(found, "joint held still").reason == "sampler can't be held still"


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.6, "explained"), (0.4, "differs"), (0.0, "differs")]
)
def test_report_of_moving_statistics_excuses_no_more_than_one_workers_batches_would_do(
    share: float, verdict: str
) -> None:
    found = _judged(0.5, 0.0, MOVING, share=share)
    assert found.verdict == verdict
    assert "moving statistics" in found.causes[0]


def test_report_of_a_graph_without_statistics_takes_no_excuse_from_the_workers_batches() -> None:
    assert _judged(0.5, 0.0, PLAIN, share=9.0).verdict == "differs"


@pytest.mark.parametrize(
    ("proved", "turned", "verdict"),
    [("equal", 0.2, "agrees"), ("equal", 0.1, "differs"), ("unproved", 0.2, "differs")],
)
def test_report_of_what_rounding_moves_excuses_no_more_than_another_order_of_the_rows_would_do(
    proved: Any, turned: float, verdict: str
) -> None:
    """Without the proof it may be a graph that minds the order."""
    found = _judged(0.5, 0.0, turned={"w": turned}, proof=Proof(proved, ""))
    assert found.verdict == verdict
    assert _named(found, "joint").rounded == (("w",) if verdict == "agrees" else ())


def test_report_of_random_numbers_takes_the_order_of_the_rows_for_no_rounding() -> None:
    """Each row has random numbers of its own: another order moves everything, and excuses nothing."""
    equal = Proof("equal", "")
    found = _judged(0.5, 0.0, NOISY, turned={"w": 9.0}, proof=equal)
    assert _named(found, "joint").agrees is False
    still = _judged(0.5, 0.0, NOISY, held=_measured(0.5, turned={"w": 9.0}), proof=equal)
    assert _named(still, "joint held still").rounded == ("w",)


def test_report_of_a_pipeline_of_the_graphs_own_names_the_order_of_its_batches() -> None:
    port = InputPort("p:0", "b:0", "float32", None, "queue", pull="b:0")
    found = _judged(None, 0.0, WorkerGraph(b"", b"", (TrainTarget("Adam"),), (port,), ()))
    assert (found.verdict, found.exit_code) == ("explained", 0)
    assert "order of the batches" in found.causes[0]


def test_report_of_batches_that_cannot_be_joined_says_so() -> None:
    found = _judged(None, 0.0, reason="the batches can't be joined")
    assert found.verdict == "explained"
    assert _named(found, "joint").agrees is None
    assert _named(found, "joint").reason == "the batches can't be joined"


def test_render_verify_of_a_difference_names_the_variable() -> None:
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=160, file=nowhere)
        render_verify(_judged(0.5, 0.0), console)
        text = console.export_text()
    assert "resuming differs" in text
    assert "w: 5.0e-01" in text
    assert "not a bit is allowed" in text


def test_verify_of_a_single_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="two steps"):
        verify(TWO, steps=1)


@pytest.mark.tf
def test_verify_edits_the_graph_once_whose_random_numbers_it_holds_still(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clipped twice, or edited where the node of a flag is gone by then."""
    asked = {"clip_global_norm": 0.1, "freeze": ["hidden/bias"], "set": {RATE: "0.05"}}
    config = parse_config(
        {"source": str(tf1_checkpoint("dropout")), "workers": 2, "output": str(tmp_path / "out")}
        | {"input": "tests.end_to_end.inputs:mlp", "until_step": 9}
        | asked
    )
    start = start_point(config, open_location(config.output), None)
    plan = make_plan(config, start)
    compared: list[tuple[RunConfig, Plan]] = []

    def measured(_: Asking, label: str, calm: RunConfig, of: Plan, **__: Any) -> dict[str, Any]:
        assert label == "held-still"
        compared.append((calm, of))
        return {}

    monkeypatch.setattr(Asking, "measured", measured)
    asking = Asking(start, 4, TOLERANCE, tmp_path)
    still = without_chance(MetaGraphDef.FromString(plan.graph.original_meta))
    _held_still(asking, config, still, halves=False)
    ((calm, held),) = compared
    assert (calm.clip_global_norm, calm.freeze, calm.set) == (None, [], {})
    for graph in (plan.graph, held.graph):
        nodes = MetaGraphDef.FromString(graph.meta).graph_def.node
        assert [node.op for node in nodes].count("IsFinite") == 1
        assert sum(node.op == "ApplyGradientDescent" for node in nodes) == 3
    assert plan.graph.random_nodes
    assert held.graph.random_nodes == held.graph.stateful_random == ()


@pytest.mark.tf
@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "verdict"),
    [pytest.param("mlp", "agrees", marks=pytest.mark.soak), ("dropout", "explained")],
)
def test_verify_of_a_real_checkpoint_on_two_workers_gives_its_verdict(
    kind: str, verdict: str, tf1_checkpoint: Callable[..., Path], ray_address: str
) -> None:
    config = {
        "source": str(tf1_checkpoint(kind)),
        "workers": 2,
        "input": "tests.end_to_end.inputs:mlp",
        "address": ray_address,
    }
    found = verify(parse_config(config))
    assert found.verdict == verdict, found
    assert _named(found, "slots").agrees
    assert _named(found, "save").agrees
    assert len(found.comparisons) == (3 if verdict == "agrees" else 4)
    assert found.comparisons[-1].agrees, "with its random numbers held still it agrees to rounding"
    assert found.moved > 0


@pytest.mark.tf
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_verify_of_a_bias_that_cancels_out_of_the_loss_agrees(
    tmp_path: Path, ray_address: str
) -> None:
    """Its gradient is rounding and nothing else, and comes out otherwise in every order of the rows:
    on some processors ``verify`` said that resuming differs.
    """
    saving = "from pathlib import Path; from tests.graph.patterns import make; from tests.graph.silent import PATTERNS; "
    making = f"make(PATTERNS['given_triplets'], Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", saving + making], check=True, capture_output=True)
    found = verify(
        parse_config(
            {
                "source": str(tmp_path / "model.ckpt-0"),
                "workers": 2,
                "input": "tests.end_to_end.inputs:triplets",
                "address": ray_address,
            }
        )
    )
    assert found.verdict == "agrees", found
