"""A credential in a URL is refused up front by whatever takes a URL, and stands nowhere afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.cli import run
from orchestrator.config import RunConfig, parse_config
from orchestrator.driver.main import resume
from orchestrator.errors import ConfigError
from orchestrator.store.objects.location import open_location
from tests.turns import quick_in_turn

SECRET = "pl4nted/Cr3dential"
FORMS = [
    f"s3://AKIA1:{SECRET}@bucket/run",
    f"s3:/AKIA1:{SECRET}@bucket",
    f"s3//AKIA1:{SECRET}@bucket",
    f"s3:AKIA1:{SECRET}@bucket",
]
COMMANDS = [
    "resume URL --output out --steps 1",
    "resume src --output URL --steps 1",
    "resume src --output out --steps 1 --meta URL",
    "resume src --output out --steps 1 --path-map /data=URL",
    "resume src --config URL",
    "resume URL --output out --dry-run",
    "submit URL --output out --address http://127.0.0.1:1",
    "check URL",
    "inspect URL",
    "verify URL",
    "infer URL --fetch loss",
    "render URL --output out",
    "status URL",
    "stop URL",
    "logs URL",
    "checkpoints URL",
    "report URL -o page.html",
    "URL",
    "resume src --outputs=URL",
]


@pytest.mark.parametrize(
    ("as_json", "url", "command"),
    quick_in_turn(itertools.product([False, True], FORMS, COMMANDS), 9),
)
def test_credential_in_a_url_is_refused_and_not_repeated(
    command: str,
    url: str,
    as_json: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = command.replace("URL", url).split() + ["--json"] * as_json
    assert run(words) == 2
    shown = "".join(capfd.readouterr())
    assert "pl4nted" not in shown
    assert "Cr3dential" not in shown
    assert list(tmp_path.iterdir()) == []


def test_credential_in_a_configuration_file_is_refused_by_its_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"source: src\noutput: {FORMS[0]}\nsteps: 1\n")
    assert run(["resume", "--config", str(file)]) == 2
    shown = "".join(capfd.readouterr())
    assert "output holds a credential" in shown
    assert "pl4nted" not in shown


@pytest.mark.parametrize("url", FORMS)
def test_credential_given_to_the_library_is_refused_and_not_repeated(url: str) -> None:
    uses: list[Callable[[], object]] = [
        lambda: open_location(url),
        lambda: parse_config({"source": url}),
        lambda: parse_config({"source": "s", "workers": 1, "import_modules": ["a", url]}),
        lambda: resume(RunConfig(source="s", output=url, steps=1)),
    ]
    for use in uses:
        with pytest.raises(ConfigError, match="holds a credential") as caught:
            use()
        assert "pl4nted" not in f"{caught.value} {caught.value.details}"
        assert caught.value.__cause__ is None
