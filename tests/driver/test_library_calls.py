"""Does a program's call ask for just what the command would, under TensorFlow's names?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig, parse_config
from orchestrator.decide.evaluating import Goal
from orchestrator.driver import library
from orchestrator.driver.following import Following
from orchestrator.driver.library import dropped_collections
from orchestrator.errors import ConfigError, SourceError
from orchestrator.graph.graphdef.undo import COLLECTION

WHOLE = parse_config({"source": "s", "output": "o", "until_step": 5, "wait_s": 7.0})


class Asked:
    """Stands for the command's own functions: keeps what they were asked for."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.given: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}
        self.meta = b""
        for name in ("resume_run", "infer_batches", "evaluate_checkpoint", "follow_run"):
            patch.setattr(library, name, self.call)

    def call(self, config: RunConfig, *given: Any, **named: Any) -> Any:
        self.given, self.named = (config, *given), named
        if config.meta is not None and Path(config.meta).exists():
            self.meta = Path(config.meta).read_bytes()
        return "the answer"

    @property
    def config(self) -> RunConfig:
        found: RunConfig = self.given[0]
        return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


CALLS: list[Callable[..., Any]] = [library.infer, library.evaluate, library.follow]


# -- resume


def graph(*collections: str) -> MetaGraphDef:
    meta = MetaGraphDef()
    meta.graph_def.node.add(name="x", op="NoOp")
    for name in collections:
        meta.collection_def[name].bytes_list.value.append(b"x")
    return meta


def test_resume_with_settings_alone_is_the_command_with_these_flags(asked: Asked) -> None:
    observer: Any = object()
    answer: Any = library.resume(
        source="s", output="o", until_step=5, wait_s=7.0, observer=observer
    )
    assert answer == "the answer"
    assert (asked.given, asked.named) == ((WHOLE,), {"observer": observer})


def test_whole_configuration_may_stand_alone(asked: Asked) -> None:
    observer: Any = object()
    answer: Any = library.resume(WHOLE, observer=observer)
    assert answer == "the answer"
    assert (asked.given, asked.named) == ((WHOLE,), {"observer": observer})
    for call in CALLS:
        assert call(WHOLE) == "the answer"
        assert asked.config is WHOLE


@pytest.mark.parametrize("given", ["graph.meta", Path("graph.meta")])
def test_file_is_the_source_or_beside_one_the_graph(asked: Asked, given: Any) -> None:
    library.resume(given)
    assert (asked.config.source, asked.config.meta) == ("graph.meta", None)
    library.resume(given, False, "old", source="s")
    assert (asked.config.source, asked.config.meta) == ("s", "graph.meta")
    assert (asked.config.clear_devices, asked.config.import_scope) == (False, "old")


def test_graph_in_memory_is_there_as_a_file_for_as_long_as_the_run(asked: Asked) -> None:
    meta = graph()
    library.resume(meta, source="s")
    assert asked.meta == meta.SerializeToString()
    assert asked.config.meta is not None
    assert Path(asked.config.meta).suffix == ".meta"
    assert not Path(asked.config.meta).exists()


def test_graph_in_memory_without_a_checkpoint_is_refused(asked: Asked) -> None:
    with pytest.raises(ConfigError) as refused:
        library.resume(graph())
    assert refused.value.message == "a MetaGraphDef alone has no variables' values"
    assert refused.value.remedy == "Name its checkpoint with source=PREFIX"
    assert asked.given == ()


def test_predicate_is_asked_of_each_collection_of_the_graph_that_is_given(asked: Asked) -> None:
    meta = graph("summaries", "losses", "train_op")
    library.resume(meta, source="s", restore_collections_predicate=lambda name: name == "losses")
    assert asked.config.drop_collection == ["summaries", "train_op"]
    library.resume(meta, source="s")
    assert asked.config.drop_collection == []


def test_predicate_is_asked_of_the_sources_graph_which_needs_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "graph.meta"
    path.write_bytes(graph("b", "a", COLLECTION, "losses").SerializeToString())
    values = {"source": path, "meta": None}
    assert dropped_collections(values, lambda name: name == "losses") == ["a", "b"]
    other = tmp_path / "other.meta"
    other.write_bytes(graph("c").SerializeToString())
    assert dropped_collections(values | {"meta": str(other)}, lambda _: False) == ["c"]


def test_graph_whose_collections_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "graph.meta"
    path.write_bytes(b"nothing of the kind")
    for values in ({"source": str(path)}, {"source": "s", "meta": str(path)}):
        with pytest.raises(SourceError, match=r"graph\.meta"):
            dropped_collections(values, lambda _: True)
    with pytest.raises(ConfigError) as refused:
        dropped_collections({}, lambda _: True)
    assert refused.value.message == "source is missing"
    assert refused.value.remedy == "Name a .meta URL, a checkpoint prefix or a directory"


# -- infer, evaluate, follow


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("source", ["run", Path("run")])
def test_source_and_settings_are_those_of_the_command(
    asked: Asked, call: Callable[..., Any], source: Any
) -> None:
    assert call(source, workers=2, input="m:f") == "the answer"
    assert asked.config == parse_config({"source": "run", "workers": 2, "input": "m:f"})
    with pytest.raises(ConfigError, match="worker: there is no such key"):
        call(source, worker=2)


def test_infer_fetches_one_batch_where_nothing_else_is_asked_for(asked: Asked) -> None:
    library.infer("run")
    assert (asked.given[1:], asked.named) == (((),), {"batches": 1})
    library.infer("run", ["loss"], batches=4)
    assert (asked.given[1:], asked.named) == ((["loss"],), {"batches": 4})


def test_evaluate_takes_all_batches_of_the_newest_checkpoint_where_nothing_else_is_asked_for(
    asked: Asked,
) -> None:
    library.evaluate("run")
    assert (asked.given[1:], asked.named) == (((),), {"step": None, "batches": 0})
    library.evaluate("run", ["loss"], step=3, batches=4)
    assert (asked.given[1:], asked.named) == ((["loss"],), {"step": 3, "batches": 4})


def test_follow_evaluates_all_batches_as_eval_every_five_seconds(asked: Asked) -> None:
    library.follow(WHOLE)
    assert asked.given == (
        WHOLE,
        Following((), 0, keep_best=None, name="eval", every_s=5.0, patience_s=7.0),
    )
    assert asked.named["told"](None, None) is None


def test_follow_is_asked_for_what_the_flags_say(asked: Asked) -> None:
    told: Any = object()
    library.follow(
        WHOLE, ["loss"], keep_best="loss:min", name="mine", batches=3, every_s=2.0, told=told
    )
    best = Goal.parse("loss:min")
    following = Following(["loss"], 3, keep_best=best, name="mine", every_s=2.0, patience_s=7.0)
    assert (asked.given, asked.named) == ((WHOLE, following), {"told": told})
