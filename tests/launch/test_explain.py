"""Does ``tfresume config`` explain every key, and does every shipped configuration file hold?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from launch.cli import run
from launch.explain import json_schema, keys
from launch.flags import read_config_file
from orchestrator.config import RunConfig, parse_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SHIPPED = ("local", "cluster-cpu", "gpu", "spot", "gcs", "s3")


def test_keys_cover_the_whole_configuration_with_a_meaning() -> None:
    found = {key.path: key for key in keys()}
    assert set(RunConfig.model_fields) <= set(found)
    assert "workers.standby" in found
    assert [key.path for key in found.values() if not key.meaning] == []


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("save_secs", "seconds"),
        ("lease_s", "seconds"),
        ("workers.memory_bytes", "bytes"),
        ("seed", ""),
    ],
)
def test_keys_state_their_unit(path: str, unit: str) -> None:
    assert {key.path: key.unit for key in keys()}[path] == unit


def test_config_explain_prints_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--explain", "--json"]) == 0
    shown = {row["path"] for row in json.loads(capsys.readouterr().out)["keys"]}
    assert shown == {key.path for key in keys()}


def test_configs_directory_holds_the_documented_files() -> None:
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configuration_is_valid_and_commented(name: str) -> None:
    text = (CONFIGS / f"{name}.yaml").read_text()
    parse_config({"source": "x", **read_config_file(str(CONFIGS / f"{name}.yaml"))})
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert len(comments) >= len(yaml.safe_load(text))


@pytest.mark.parametrize("name", SHIPPED)
def test_config_explain_of_a_shipped_file_shows_what_it_sets(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["config", str(CONFIGS / f"{name}.yaml"), "--explain"]) == 0
    assert "here" in capsys.readouterr().out


@pytest.mark.parametrize("name", SHIPPED)
def test_config_of_a_shipped_file_prints_what_it_comes_to(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["config", str(CONFIGS / f"{name}.yaml"), "--json"]) == 0
    assert "workers" in json.loads(capsys.readouterr().out)["config"]


def test_json_schema_accepts_the_shipped_files_and_refuses_an_unknown_key() -> None:
    import jsonschema

    check = jsonschema.Draft202012Validator(json_schema())
    for name in SHIPPED:
        assert list(check.iter_errors(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))) == []
    assert list(check.iter_errors({"save_step": 4})) != []
    assert list(check.iter_errors({"workers": {"coutn": 1}})) != []


def test_json_schema_beside_the_shipped_files_is_the_exported_one() -> None:
    written = json.loads((CONFIGS / "tfresume.schema.json").read_text())
    assert written == json_schema(), (
        "run `tfresume config --json-schema > configs/tfresume.schema.json`"
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_file_tells_editors_where_its_schema_is(name: str) -> None:
    first = (CONFIGS / f"{name}.yaml").read_text().splitlines()[0]
    assert (CONFIGS / first.rpartition("=")[2]).is_file()
