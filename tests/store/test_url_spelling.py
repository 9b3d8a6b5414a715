"""URLs that can't be meant are refused before a directory of that name is made; odd but possible
names are left alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.cli import run
from orchestrator.errors import ConfigError
from orchestrator.redaction import WITHOUT_CREDENTIALS
from orchestrator.store.objects.location import open_location
from orchestrator.store.objects.url_spelling import check_spelling, one_protocol


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


@pytest.mark.parametrize(
    ("url", "message", "remedy"),
    [
        (" ", "the URL is empty", "Give a path or a URL such as gs://bucket/run"),
        (
            "gs:/b/x",
            "gs:/b/x is neither a URL nor a likely path",
            "Write gs://b/x, or ./gs:/b/x for a path",
        ),
        (
            "S3//b/x",
            "S3//b/x is neither a URL nor a likely path",
            "Write S3://b/x, or ./S3//b/x for a path",
        ),
        ("a\0b", "'a\\x00b' holds a zero byte", "Take it out: no store has such names"),
        (
            "gs://b/${RUN}",
            "gs://b/${RUN} holds ${RUN}, which nobody has put a value in for",
            "Write the value: variables are a shell's business, and not expanded in single quotes or a configuration file",
        ),
        (
            "GS:///x",
            "GS:///x names no bucket",
            "Write GS://BUCKET/PATH; a shell variable in it may have been empty",
        ),
        (
            "gs:///x://y",
            "gs:///x://y names no bucket",
            "Write gs://BUCKET/PATH; a shell variable in it may have been empty",
        ),
        (
            "~nobody_of_this_name/x",
            "~nobody_of_this_name/x: this machine knows no such user",
            "Write the whole path, or ./~nobody_of_this_name/x for that very name",
        ),
        (
            "s3://me:geheim1@b/x",
            "a URL holds a credential, which isn't repeated here",
            WITHOUT_CREDENTIALS,
        ),
        (
            "s3:/me:geheim1@b/x",
            "a URL holds a credential, which isn't repeated here",
            WITHOUT_CREDENTIALS,
        ),
    ],
)
def test_refusal_of_a_url_says_what_to_write_instead(url: str, message: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_spelling(url)
    assert (refused.value.message, refused.value.remedy) == (message, remedy)


@pytest.mark.parametrize(
    "url", ["gs://b/x://y", "gs://X/", "x", "/a//b", "gs/x", "memory://", "~/x", "gs://b/gs:/c"]
)
def test_url_that_can_be_meant_passes(url: str) -> None:
    check_spelling(url)


@pytest.mark.parametrize(
    ("url", "one"),
    [
        ("gcs://b/x", "gs://b/x"),
        ("s3a://b/x://y", "s3://b/x://y"),
        ("abfss://b", "az://b"),
        ("abfs://b", "az://b"),
        ("memory://b", "memory://b"),
        ("/a/b", "/a/b"),
    ],
)
def test_store_of_several_names_has_one(url: str, one: str) -> None:
    assert one_protocol(url) == one
