"""Is every batch served once, held until it's applied, and the user's errors told as the user's?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError, EndOfData, SourceError, UserCodeError
from orchestrator.graph.worker_graph import InputPort, WorkerGraph
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.inputs.arrays import ArrayBatches, Arrays, open_arrays
from orchestrator.training.inputs.constant_feeds import constant_feeds
from orchestrator.training.inputs.feeds import FeedContext, open_batches
from orchestrator.training.inputs.rank_share import Share

PORTS = (
    InputPort("x:0", "x:0", "float32", (None, 2)),
    InputPort("y:0", "y:0", "int64", (None,)),
    InputPort("keep_prob:0", "keep_prob:0", "float32", ()),
    InputPort("training:0", "training:0", "bool", ()),
    InputPort("words:0", "words:0", "string", (None,)),
)
HERE = f"{__file__}"


def graph(*ports: InputPort) -> WorkerGraph:
    return WorkerGraph(meta=b"", original_meta=b"", targets=(), inputs=ports or PORTS, variables=())


def numbered(ctx: FeedContext) -> Iterator[dict[str, Any]]:
    number = ctx.position + ctx.rank
    while number < 10:
        yield {"x:0": np.full((1, 2), number, np.float32)}
        number += ctx.world_size


def raising(ctx: FeedContext) -> Iterator[dict[str, Any]]:
    yield {"x:0": np.zeros((1, 2))}
    raise RuntimeError("the file is gone")


def refusing(ctx: FeedContext) -> Iterator[dict[str, Any]]:
    raise RuntimeError("no such split")


def leaving(ctx: FeedContext) -> Iterator[dict[str, Any]]:
    yield {"x:0": np.zeros((1, 2))}
    sys.exit(3)


def gone_at_once(ctx: FeedContext) -> Iterator[dict[str, Any]]:
    sys.exit(4)


def confused(ctx: FeedContext) -> Iterator[Any]:
    yield [1, 2, 3]


def config(**values: Any) -> RunConfig:
    return RunConfig(source="s", **values)


def context(rank: int = 0, world_size: int = 1, position: int = 0) -> FeedContext:
    return FeedContext(rank=rank, world_size=world_size, step=position, position=position)


def test_batch_is_held_until_it_was_applied() -> None:
    stream = open_batches(config(input=f"{HERE}:numbered"), graph(), context())
    first = stream.current()
    assert stream.current() is first
    stream.applied()
    assert stream.current()["x:0"][0, 0] == 1.0


def test_input_function_whose_iterator_ends_is_the_end_of_data() -> None:
    stream = open_batches(config(input=f"{HERE}:numbered"), graph(), context(position=9))
    stream.current()
    stream.applied()
    with pytest.raises(EndOfData):
        stream.current()


def two_batches(reference: str) -> None:
    stream = open_batches(config(input=reference), graph(), context())
    for _ in range(2):
        stream.current()
        stream.applied()


@pytest.mark.parametrize(
    ("function", "telling"),
    [
        ("raising", "the file is gone"),
        ("refusing", "no such split"),
        ("leaving", "SystemExit: 3"),
        ("gone_at_once", "SystemExit: 4"),
    ],
)
def test_input_function_that_raises_is_the_users_error_with_the_traceback(
    function: str, telling: str
) -> None:
    with pytest.raises(UserCodeError, match=telling) as caught:
        two_batches(f"{HERE}:{function}")
    assert f"in {function}" in caught.value.details["traceback"]


def test_input_function_that_gives_a_list_is_told_what_belongs_there() -> None:
    with pytest.raises(UserCodeError, match="a list where a mapping"):
        open_batches(config(input=f"{HERE}:confused"), graph(), context()).current()


def test_input_module_that_leaves_while_it_is_imported_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\nsys.exit('usage: script.py FILE')\n")
    with pytest.raises(UserCodeError, match="usage: script"):
        open_batches(config(input=f"{tmp_path}/script.py:batches"), graph(), context())


@pytest.mark.parametrize(
    "reference",
    ["no_such_module_here:batches", "json:no_such_function", "nothing", "/no/such/file.py:f"],
)
def test_input_function_that_cannot_be_loaded_is_the_users_error(reference: str) -> None:
    with pytest.raises(UserCodeError, match="can't be loaded"):
        open_batches(config(input=reference), graph(), context())


class Pipeline:
    """Stands for the Trainer: three batches out of the graph."""

    def __init__(self) -> None:
        self.left = 3
        self.place: Share | None = None

    def place_inputs(self, share: Share) -> None:
        self.place = share

    def pull(self) -> dict[str, np.ndarray]:
        if not self.left:
            raise EndOfData("exhausted")
        self.left -= 1
        return {"x:0": np.full((1, 2), self.left, np.float32), "y:0": np.zeros(1, np.int64)}


def test_batches_pulled_from_the_graph_are_held_and_end_with_it() -> None:
    pipeline = Pipeline()
    ports = (
        InputPort("x_fed:0", "x:0", "float32", None, pull="x:0"),
        InputPort("y:0", "y:0", "int64", None),
    )
    stream = open_batches(config(feed={"y:0": "7"}), graph(*ports), context(), pipeline)
    assert stream.current()["x:0"][0, 0] == 2.0
    assert stream.current()["y:0"] == 7
    assert pipeline.left == 2
    assert pipeline.place == Share(rank=0, world_size=1, position=0)
    for _ in range(2):
        stream.applied()
        stream.current()
    stream.applied()
    with pytest.raises(EndOfData):
        stream.current()


@pytest.mark.slow
@given(
    rows=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6)), min_size=1, max_size=6),
    seed=st.none() | st.integers(0, 2**63),
)
def test_rows_of_any_sequence_of_world_sizes_are_those_of_one_worker(
    rows: int, batch_size: int, sizes: list[tuple[int, int]], seed: int | None
) -> None:
    arrays = Arrays({"x:0": np.arange(rows)}, batch_size)
    alone = ArrayBatches(arrays, context(), seed=seed)
    position = 0
    for world_size, steps in sizes:
        streams = [
            iter(ArrayBatches(arrays, context(rank, world_size, position), seed=seed))
            for rank in range(world_size)
        ]
        for step in range(steps):
            for rank, stream in enumerate(streams):
                number = position + step * world_size + rank
                assert np.array_equal(next(stream)["x:0"], alone.rows_of(number))
        position += world_size * steps


@given(
    rows=st.integers(1, 50),
    batch_size=st.integers(1, 20),
    epochs=st.integers(1, 4),
    seed=st.none() | st.integers(0, 2**40),
)
def test_rows_of_an_epoch_are_each_served_once(
    rows: int, batch_size: int, epochs: int, seed: int | None
) -> None:
    batches = ArrayBatches(Arrays({"x:0": np.arange(rows)}, batch_size), context(), seed=seed)
    count = -(-rows * epochs // batch_size)
    served = np.concatenate([batches.rows_of(number) for number in range(count)])[: rows * epochs]
    for epoch in range(epochs):
        assert sorted(served[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_rows_are_shuffled_differently_in_each_epoch_and_by_seed() -> None:
    arrays = Arrays({"x:0": np.arange(100)}, 100)
    first, second = (
        ArrayBatches(arrays, context(), seed=1).rows_of(epoch).tolist() for epoch in (0, 1)
    )
    assert first != second
    assert first != ArrayBatches(arrays, context(), seed=2).rows_of(0).tolist()
    assert ArrayBatches(arrays, context(), seed=None).rows_of(1).tolist() == list(range(100))


def test_arrays_are_read_from_npy_and_npz_on_any_store(tmp_path: Path) -> None:
    import fsspec

    np.save(tmp_path / "y.npy", np.arange(6))
    with fsspec.open("memory://arrays/train.npz", "wb") as file:
        np.savez(file, images=np.ones((6, 2), np.float32), other=np.zeros(3))
    urls = {"x:0": "memory://arrays/train.npz#images", "y:0": str(tmp_path / "y.npy")}
    stream = open_batches(
        config(array=urls, batch_size=2, shuffle=False), graph(), context(rank=1, world_size=2)
    )
    batch = stream.current()
    assert batch["x:0"].shape == (2, 2)
    assert batch["y:0"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("make", "error", "telling"),
    [
        (lambda path: {"x:0": f"{path}/none.npy"}, SourceError, "none.npy"),
        (lambda path: {"x:0": f"{path}/text.npy"}, SourceError, "text.npy"),
        (lambda path: {"x:0": f"{path}/two.npz"}, SourceError, "a, b"),
        (lambda path: {"x:0": f"{path}/two.npz#c"}, SourceError, "c"),
        (lambda path: {"x:0": f"{path}/scalar.npy"}, SourceError, "scalar"),
        (
            lambda path: {"x:0": f"{path}/two.npz#a", "y:0": f"{path}/two.npz#b"},
            ConfigError,
            "differ in length",
        ),
        (lambda path: {"z:0": f"{path}/two.npz#a"}, ConfigError, "no input z:0"),
        (lambda path: {"x:0": f"{path}/pickled.npy"}, SourceError, "pickled.npy"),
    ],
)
def test_array_that_cannot_be_used_is_named(
    tmp_path: Path, make: Any, error: type[Exception], telling: str
) -> None:
    (tmp_path / "text.npy").write_text("not an array")
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(4))
    np.save(tmp_path / "scalar.npy", np.float32(1))
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(error, match=telling):
        open_arrays(make(tmp_path), graph(), batch_size=2)


def test_arrays_without_a_batch_size_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        open_arrays({"x:0": "x.npy"}, graph(), batch_size=None)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("keep_prob:0", "0.5", np.float32(0.5)),
        ("training:0", "true", np.True_),
        ("training:0", "False", np.False_),
        ("y:0", "[1, 2]", np.array([1, 2])),
        ("words:0", '["a", "b"]', np.array(["a", "b"], dtype=object)),
        ("words:0", "plain", np.array("plain", dtype=object)),
        ("inner/rate:0", "0.25", np.array(0.25)),
    ],
)
def test_constant_takes_the_dtype_of_its_input(name: str, text: str, value: Any) -> None:
    array = constant_feeds({name: text}, graph())[name]
    assert array.dtype == np.asarray(value).dtype
    assert np.array_equal(array, value)


def test_constant_that_is_no_number_is_refused_by_its_dotted_path() -> None:
    with pytest.raises(ConfigError, match=r"feed\.keep_prob:0"):
        constant_feeds({"keep_prob:0": "half"}, graph())


@pytest.mark.tf
def test_watched_tensor_that_is_fed_shows_what_it_is_fed(
    new_ranks: Any, tf1_checkpoint: Any
) -> None:
    """A learning rate, say. With one worker a prepared call refuses to fetch what is fed."""
    rate = "GradientDescent/learning_rate:0"
    ranks = new_ranks(1)
    ranks.start(tf1_checkpoint("mlp", optimizer="sgd"), options=TrainingOptions(watch=(rate,)))
    batch = {"x:0": np.zeros((2, 6), np.float32), "y:0": np.zeros(2, np.int64)}
    watched = [ranks.step([{**batch, rate: value}])[0].watched[rate] for value in (0.25, 0.5)]
    assert watched == [0.25, 0.5]
