"""Does every combination of overlays go through kustomize as it is rendered?"""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.render.kustomize import BASES
from launch.render.manifests import manifests
from launch.render.overlays import with_overlays
from tests.launch.test_render import (
    COMBINATIONS,
    by_identity,
    kustomized_copy,
)


@pytest.mark.turns(8)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_kustomize_of_any_combination_gives_what_is_rendered(
    base: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    found = by_identity(kustomized_copy(tmp_path, base, names))
    assert found == by_identity(manifests(with_overlays(BASES[base], names)))
