"""Input files that moved to a store are brought to this node, and the graph reads them there."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.types_pb2 import DT_STRING

from orchestrator.errors import SourceError
from orchestrator.training.importing.remote_files import localize, stage_files


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """A directory of three files in a store that TensorFlow can't read."""
    root = f"memory://{request.node.name}"
    memory = fsspec.filesystem("memory")
    for name in ("a.csv", "b.csv", "notes.txt"):
        memory.pipe(f"/{request.node.name}/{name}", f"content of {name}".encode())
    return root


def test_stage_files_with_names_gives_local_paths_of_their_content(
    store: str, tmp_path: Path
) -> None:
    local = stage_files([f"{store}/a.csv", f"{store}/b.csv"], tmp_path)
    assert {Path(path).read_text() for path in local.values()} == {
        "content of a.csv",
        "content of b.csv",
    }
    assert {Path(path).parent for path in local.values()} == {Path(local[f"{store}/a.csv"]).parent}


def test_stage_files_with_a_pattern_gives_a_local_pattern_of_what_it_matches(
    store: str, tmp_path: Path
) -> None:
    (pattern,) = stage_files([f"{store}/*.csv"], tmp_path).values()
    assert sorted(path.name for path in Path(pattern).parent.glob("*.csv")) == ["a.csv", "b.csv"]
    assert not (Path(pattern).parent / "notes.txt").exists()


@pytest.mark.parametrize("name", ["c.csv", "*.tfrecord"])
def test_stage_files_that_are_not_there_names_them(store: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="isn't there") as caught:
        stage_files([f"{store}/{name}"], tmp_path)
    assert name in caught.value.message


def test_localize_puts_local_paths_into_the_graphs_constants_and_leaves_others(
    store: str, tmp_path: Path
) -> None:
    meta = MetaGraphDef()
    tensor = meta.graph_def.node.add(name="files", op="Const").attr["value"].tensor
    tensor.dtype = DT_STRING
    tensor.string_val.extend([f"{store}/a.csv".encode(), b"/local/other.csv"])
    localize(meta, [f"{store}/a.csv"], tmp_path)
    assert Path(tensor.string_val[0].decode()).read_text() == "content of a.csv"
    assert tensor.string_val[1] == b"/local/other.csv"
