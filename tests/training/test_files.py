"""Are a graph's files looked for without asking strangers' servers, without end, or taking silence
for absence?
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.graph.inputs.diagnosis import Facts, Outside, problems_of
from orchestrator.training.inputs.files import FilesSeen
from tests.graph.test_pipelines_diagnosis import FILES, pipeline

WITHIN_S = 0.5


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def url_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}/data/"


def contacted(server: socket.socket, within_s: float = 0.05) -> bool:
    """Whether anybody waits to be let in."""
    server.settimeout(within_s)
    try:
        server.accept()[0].close()
    except TimeoutError:
        return False
    return True


def test_files_patterns_and_declared_urls_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text("1")
    seen = FilesSeen(["memory://nobody/"])
    assert not seen.missing(str(tmp_path / "part-0.csv"))
    assert not seen.missing(f"file://{tmp_path}/part-0.csv")
    assert not seen.missing(str(tmp_path / "part-*.csv"))
    assert seen.missing(str(tmp_path / "part-1.csv"))
    assert seen.missing(str(tmp_path / "*.tfrecord"))
    assert seen.missing("memory://nobody/wrote/this.csv")
    assert seen.unreachable("memory://nobody/wrote/this.csv") == ""


def test_server_that_only_a_strangers_graph_names_is_not_contacted(mute: socket.socket) -> None:
    for declared in ([], ["http://127.0.0.1:1/"], ["/data/"]):
        seen = FilesSeen(declared, WITHIN_S)
        assert not seen.missing(f"{url_of(mute)}a.csv")
        assert seen.unreachable(f"{url_of(mute)}a.csv") == ""
    assert not contacted(mute)


def test_server_that_doesnt_answer_is_given_up_in_time_and_its_files_are_not_called_missing(
    mute: socket.socket,
) -> None:
    """It took two minutes, and then the files were "not there"."""
    seen, began_s = FilesSeen([url_of(mute)], WITHIN_S), time.monotonic()
    names = [f"{url_of(mute)}{number}.csv" for number in range(20)]
    assert [seen.unreachable(name) for name in names] == ["no answer within 0.5 s"] * 20
    assert not any(seen.missing(name) for name in names)
    assert time.monotonic() - began_s < 5
    assert contacted(mute, 30)


def test_pipeline_whose_files_cant_be_seen_says_why_and_not_that_they_are_gone() -> None:
    outside = Outside(
        missing=lambda name: False,
        unreachable=lambda name: "the store is asleep" if "b.csv" in name else "",
    )
    (cause,) = problems_of(pipeline(files=(FILES,)), Facts(outside=outside))
    assert cause.code == "pipeline-files-unreachable"
    assert "the store is asleep" in cause.why
    assert "not there" not in cause.why
