"""URLs that can't be meant are refused before a directory of that name is made; odd but possible
names are left alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.cli import run
from orchestrator.errors import ConfigError
from orchestrator.store.objects.location import open_location


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("${HOME}/run", r"\$\{HOME\}"),
        ("$HOME/run", r"\$HOME"),
        ("/data/${RUN:-x}/out", "nobody has put a value in"),
        ("gs://$BUCKET/run", r"\$BUCKET"),
        ("s3://bucket/$(date)/x", "nobody has put"),
        ("gs:///run", "names no bucket"),
        ("s3://", "names no bucket"),
        ("s3:///", "names no bucket"),
        ("~nobody_of_this_name/run", "no such user"),
        ("/data/a\0b", "zero byte"),
    ],
)
def test_url_that_cannot_be_meant_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        open_location(url)
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["cost$5", "a$HOME", "$", "{HOME}", "50%", "x~y", "part_$folder$"])
def test_url_with_an_odd_name_is_left_alone(tmp_path: Path, name: str) -> None:
    assert open_location(f"{tmp_path}/{name}").name == name


def test_output_with_a_variable_in_it_makes_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("source: ./src\noutput: ${HOME}/out\nsteps: 1\n")
    assert run(["resume", "--config", "run.yaml", "--dry-run"]) == 2
    assert "${HOME}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
