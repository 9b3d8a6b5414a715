"""Which tensors share a buffer, in which order, and how large is a gathered one?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.graph.batch_scale import BatchScale
from orchestrator.graph.worker_graph import DenseSeam, SparseSeam, TrainTarget

pytestmark = pytest.mark.tf


def seam(node: str, *shape: int | None, dtype: str = "float32") -> DenseSeam:
    return DenseSeam(node, dtype, shape)


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.training.nccl import exchange

    monkeypatch.setattr(exchange, "HINT", "ring")


def no_vote() -> Any:
    raise AssertionError("nothing is run here")


def chain(*names: str) -> Any:
    """A graph of Identity nodes, each over the one before."""
    import tensorflow

    graph = tensorflow.Graph()
    with graph.as_default():
        value = tensorflow.zeros([2], name="zero")
        for name in names:
            value = tensorflow.identity(value, name=name)
    return graph


def test_small_tensors_of_one_type_and_level_share_a_buffer_and_others_do_not() -> None:
    from orchestrator.training.nccl.packing import packs_of

    seams = [
        (seam("a", 4), (0,)),
        (seam("b", 2, 3), (0,)),
        (seam("half", 4, dtype="float16"), (0,)),
        (seam("later", 4), (0,)),
        (seam("large", 1024, 1024), (0,)),
        (seam("unknown", None, 3), (0,)),
        (seam("other target", 4), (1,)),
    ]
    levels = {each.node: int(each.node == "later") for each, _ in seams}
    packs = [[each.node for each in pack] for pack in packs_of(seams, levels)]
    assert sorted(packs) == sorted(
        [["a", "b"], ["half"], ["later"], ["large"], ["unknown"], ["other target"]]
    )


def test_shared_buffer_ends_where_it_is_full() -> None:
    from orchestrator.training.nccl.packing import packs_of

    seams = [(seam(str(number), 100), (0,)) for number in range(10)]  # 400 bytes each
    packs = packs_of(seams, {each.node: 0 for each, _ in seams}, limit=400, pack_bytes=1200)
    assert [len(pack) for pack in packs] == [3, 3, 3, 1]
    assert [each.node for pack in packs for each in pack] == [each.node for each, _ in seams]


def test_exponent_is_the_least_power_of_two_that_holds_the_rows() -> None:
    import tensorflow

    from orchestrator.training.nccl.exchange import _exponent

    with tensorflow.Graph().as_default(), tensorflow.compat.v1.Session() as session:
        rows = tensorflow.range(5001)
        exponents = session.run(
            tensorflow.map_fn(_exponent, rows, fn_output_signature=tensorflow.int32)
        )
    assert exponents[0] == exponents[1] == 0
    for count, exponent in enumerate(exponents.tolist()):
        assert 2**exponent >= count
        assert exponent == 0 or 2 ** (exponent - 1) < count


def test_exchange_of_a_group_of_one_at_most_adds_no_node() -> None:
    from orchestrator.training.nccl.exchange import Exchange

    graph = chain("seam")
    before = len(graph.get_operations())
    exchange = Exchange(graph, [TrainTarget("seam", dense=(seam("seam", 2),))], 1, no_vote)
    exchange.connect(1)
    assert len(graph.get_operations()) == before
    assert exchange.feeds(1, 3) == {}


def test_exchange_wires_collectives_for_a_group_and_the_own_gradient_for_one() -> None:
    from orchestrator.training.nccl.exchange import Exchange

    graph = chain("gradient", "seam")
    exchange = Exchange(graph, [TrainTarget("seam", dense=(seam("seam", 2),))], 4, no_vote)
    identity = graph.get_operation_by_name("seam")
    exchange.connect(3)
    assert identity.inputs[0].op.name != "gradient"
    assert identity.inputs[0].shape.is_compatible_with([2])
    exchange.connect(1)
    assert identity.inputs[0].op.name == "gradient"


def test_every_buffer_is_large_enough_that_each_rank_receives() -> None:
    import tensorflow

    from orchestrator.training.nccl.exchange import CHUNK_BYTES, Exchange

    graph = tensorflow.Graph()
    with graph.as_default():
        for name, shape in (("tiny", [3]), ("large", [400_000])):
            tensorflow.identity(tensorflow.zeros(shape), name=name)
    seams = (seam("tiny", 3), seam("large", 400_000))
    Exchange(graph, [TrainTarget("tiny", dense=seams)], 8, no_vote)
    reductions = [op for op in graph.get_operations() if op.type == "CollectiveReduceV2"]
    elements = [op.inputs[0].shape.num_elements() for op in reductions]
    assert len(reductions) == 3  # the probe and both
    assert all(4 * count >= 8 * CHUNK_BYTES for count in elements if count)


def test_sparse_exchange_of_a_seam_has_keys_of_its_own() -> None:
    import tensorflow

    from orchestrator.training.nccl.exchange import FIRST_SPARSE_KEY, KEYS_PER_SPARSE_SEAM, Exchange

    graph = tensorflow.Graph()
    with graph.as_default():
        for name in ("a", "b"):
            tensorflow.identity(tensorflow.zeros([5, 2]), name=f"{name}_values")
            tensorflow.identity(tensorflow.zeros([5], tensorflow.int64), name=f"{name}_indices")
    seams = tuple(
        SparseSeam(f"{name}_values", f"{name}_indices", "float32", "int64", (2,))
        for name in ("a", "b")
    )
    Exchange(graph, [TrainTarget("a_values", sparse=seams)], 2, no_vote)
    gathers = [op for op in graph.get_operations() if op.type == "CollectiveGatherV2"]
    assert len(gathers) == 6
    static = [tensorflow.get_static_value(op.inputs[3]) for op in gathers]
    assert {int(key) for key in static if key is not None} == {
        FIRST_SPARSE_KEY,
        FIRST_SPARSE_KEY + KEYS_PER_SPARSE_SEAM,
    }


def test_gradients_of_sums_are_not_divided_and_share_no_buffer_with_means() -> None:
    import tensorflow

    from orchestrator.training.nccl.exchange import Exchange

    for scale, finals in (
        ("auto", ["Div", "Id", "Id"]),
        ("mean", ["Div", "Id"]),
        ("sum", ["Id", "Id"]),
    ):
        graph = tensorflow.Graph()
        with graph.as_default():
            for name in ("summed", "averaged", "rows"):
                tensorflow.identity(tensorflow.zeros([3, 2]), name=name)
            tensorflow.identity(tensorflow.zeros([3], tensorflow.int64), name="indices")
        dense = (
            DenseSeam("summed", "float32", (3, 2), scale=BatchScale("sum")),
            DenseSeam("averaged", "float32", (3, 2), scale=BatchScale("mean")),
        )
        sparse = (SparseSeam("rows", "indices", "float32", "int64", (2,), BatchScale("sum")),)
        before = len([op for op in graph.get_operations() if op.type == "RealDiv"])
        Exchange(graph, [TrainTarget("summed", dense=dense, sparse=sparse)], 2, no_vote, scale)  # type: ignore[arg-type]
        reductions = [op for op in graph.get_operations() if op.type == "CollectiveReduceV2"]
        # the probe's is an Id
        assert sorted(op.get_attr("final_op").decode() for op in reductions) == finals, scale
        divided = len([op for op in graph.get_operations() if op.type == "RealDiv"]) - before
        assert divided == (scale == "mean"), "the rows of sparse gradients"
