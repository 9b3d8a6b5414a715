"""Is it found of each gradient whether it's that of a mean over rows or of a sum, in losses as
people write them? And is it so?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.config import RunConfig
from orchestrator.graph.batch_scale import BatchScale
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import plan
from orchestrator.graph.worker_graph import WorkerGraph
from tests import forked
from tests.graph.bare import train_original
from tests.graph.losses import LOSSES, WORDS
from tests.graph.pair import Pair

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]


PLAIN = {"mean", "sum", "mean+sum"}


@pytest.fixture(scope="module")
def metas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the ``.meta`` of each loss."""
    directory = tmp_path_factory.mktemp("losses")
    done = forked.run("tests.graph.losses", directory)
    assert not done.returncode, done.stderr[-3000:]
    return directory


def planned(metas: Path, name: str, **options: object) -> WorkerGraph:
    """The graph of a group of two."""
    meta = read_meta((metas / f"{name}.meta").read_bytes(), name=name)
    found = plan(
        meta, RunConfig.model_validate({"source": "x", "workers": 2, "input": "a:b", **options})
    )
    assert found.worker_graph is not None, found.problems
    assert not found.group_refused
    return found.worker_graph


def scales(metas: Path, name: str, **options: object) -> dict[str, list[BatchScale]]:
    """Variable to what the parts of its gradient are of."""
    (target,) = planned(metas, name, **options).targets
    seams = [*(seam for seam in target.dense if seam.role == "gradient"), *target.sparse]
    found: dict[str, list[BatchScale]] = {}
    for seam in seams:
        for variable in seam.scale.variables:  # type: ignore[attr-defined]
            found.setdefault(variable, []).append(seam.scale)  # type: ignore[attr-defined]
    return found


def kinds(found: dict[str, list[BatchScale]]) -> dict[str, str]:
    """Variable to the kinds of its gradient's parts."""
    return {
        variable: "+".join(sorted({scale.kind for scale in parts}))
        for variable, parts in found.items()
    }


@pytest.mark.parametrize("name", LOSSES)
def test_scale_of_each_gradient_is_that_of_its_loss(metas: Path, name: str) -> None:
    found = scales(metas, name)
    assert kinds(found) == LOSSES[name][1], found


@pytest.mark.parametrize(
    "name", [name for name, (_, wanted) in LOSSES.items() if set(wanted.values()) - PLAIN]
)
def test_scale_that_is_no_plain_mean_or_sum_says_why_and_where(metas: Path, name: str) -> None:
    for scale in (scale for parts in scales(metas, name).values() for scale in parts):
        if scale.kind not in ("mean", "sum"):
            assert scale.why
            assert scale.node
        assert scale.losses


def test_scale_of_a_sum_by_a_number_given_for_the_whole_run_is_a_sum(metas: Path) -> None:
    assert set(kinds(scales(metas, "by_fed_number", feed={"scale:0": "8"})).values()) == {"sum"}


def test_scale_of_a_graph_imported_under_a_prefix_is_found_all_the_same(metas: Path) -> None:
    for name in ("total", "mean", "sum_and_penalty", "towers"):
        meta = read_meta((metas / f"{name}.meta").read_bytes(), name=name)
        for node in meta.graph_def.node:
            node.name = f"import/{node.name}"
            node.input[:] = [
                f"^import/{text[1:]}" if text.startswith("^") else f"import/{text}"
                for text in node.input
            ]
            if "_class" in node.attr:
                del node.attr["_class"]
        meta.collection_def.clear()
        (train,) = [
            node.name
            for node in meta.graph_def.node
            if node.name.endswith("GradientDescent") and node.op == "NoOp"
        ]
        found = plan(meta, RunConfig(source="x", workers=2, input="a:b", train_op=[train]))
        assert found.worker_graph is not None, found.problems
        seen: dict[str, list[BatchScale]] = {}
        for seam in found.worker_graph.targets[0].dense:
            for variable in seam.scale.variables:
                seen.setdefault(variable.removeprefix("import/"), []).append(seam.scale)
        assert kinds(seen) == LOSSES[name][1], name


ROWS = 4
EXACT = sorted(
    name
    for name, (_, wanted) in LOSSES.items()
    if set(wanted.values()) <= PLAIN and name != "fixed_mean"
)
STATISTICS = {"flattened"}
"""Each worker's batch norm takes its own batch's statistics."""


def values_for(port: Any, rows: int, rng: np.random.Generator) -> Any:
    """What to feed: rows, or the one number that a scalar is; a batch size is one."""
    if port.shape == () or "keep_prob" in port.name:
        return np.array(rows if "batch_size" in port.name else 0.5, port.dtype)
    shape = [rows, *(size or 3 for size in (port.shape or ())[1:])]
    if port.dtype == "int64":
        return rng.integers(0, WORDS if "ids" in port.name else 3, shape)
    if port.dtype == "bool":
        return rng.random(shape) < 0.5
    return rng.normal(size=shape).astype(port.dtype)


@pytest.mark.parametrize("name", sorted(set(EXACT) - STATISTICS - {"dropped_sum"}))
def test_group_of_two_by_these_scales_trains_as_one_process_with_both_batches(
    metas: Path, name: str
) -> None:
    graph = planned(metas, name)
    rng = np.random.default_rng(3)
    whole = {port.name: values_for(port, 2 * ROWS, rng) for port in graph.inputs}
    halves = {
        rank: {
            key: value[rank * ROWS : (rank + 1) * ROWS]
            if value.ndim
            else value // 2
            if "batch_size" in key
            else value
            for key, value in whole.items()
        }
        for rank in (0, 1)
    }
    with Pair(graph, str(metas / name)) as pair:
        before = pair.variables(0)
        pair.step(halves)
        first = pair.variables(0)
    alone = train_original(
        graph.original_meta,
        str(metas / name),
        [target.op for target in graph.targets],
        1,
        lambda _: whole,
    )
    for variable, value in alone.items():
        np.testing.assert_allclose(first[variable], value, rtol=1e-5, atol=1e-6, err_msg=variable)
    assert any(not np.array_equal(before[variable], first[variable]) for variable in before)
