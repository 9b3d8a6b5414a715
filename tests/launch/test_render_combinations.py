"""Does every combination of overlays go through kustomize as it is rendered, and would ``resume``
take the run that it holds?
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.cli import run
from launch.render.kustomize import BASES
from launch.render.manifests import manifests
from launch.render.overlays import with_overlays
from tests.graphs.library import CheckpointLibrary
from tests.launch.test_render import (
    COMBINATIONS,
    DEPLOYMENTS,
    by_identity,
    deployment,
    kustomized_copy,
)


@pytest.mark.slow  # each starts kubectl, and they're many
@pytest.mark.turns(8)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_kustomize_of_any_combination_gives_what_is_rendered(
    base: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    found = by_identity(kustomized_copy(tmp_path, base, names))
    assert found == by_identity(manifests(with_overlays(BASES[base], names)))


def files_of_the_run(objects: list[dict[str, Any]]) -> dict[str, str]:
    data: dict[str, str] = by_identity(objects)[("ConfigMap", "tfresume-run")]["data"]
    return data


@pytest.mark.tf
def test_run_of_every_combination_passes_a_dry_run_of_resume(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the files that its Pods mount; source, output and input are this machine's, as flags
    over them.
    """
    source = tf1_checkpoint("mlp", optimizer="adam")
    feeds = tmp_path / "feeds.py"
    feeds.write_text("def batches(ctx):\n    yield {}\n")
    own = [str(source), "--output", str(tmp_path / "more"), "--input", f"{feeds}:batches"]
    distinct = {
        json.dumps(files_of_the_run(manifests(deployment(kind, names))), sort_keys=True): names
        for kind, names in DEPLOYMENTS
    }
    assert len(distinct) > 5
    for number, (text, names) in enumerate(distinct.items()):
        mounted = tmp_path / f"etc{number}"
        mounted.mkdir()
        for name, held in json.loads(text).items():
            (mounted / name).write_text(held)
        code = run(["resume", *own, "--config", str(mounted), "--dry-run", "--json"])
        told = capsys.readouterr()
        assert code == 0, (names, told.err)
        plan = json.loads(told.out)
        wanted = [yaml.safe_load(held) or {} for held in json.loads(text).values()]
        assert plan["until_step"] in {values.get("until_step") for values in wanted}
