"""Does every spelling of a run's output lead to the workers that an earlier driver left?"""

from __future__ import annotations

import pytest

from orchestrator.workers.namespace import namespace_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gs://b/run", "gcs://b/run/"),
        ("s3://b/run", "s3a://b/run"),
        ("az://b/run", "abfss://b/run"),
        ("abfs://b/run", "az://b/run"),
        ("/data/run", "/data/run/"),
    ],
)
def test_namespace_is_one_for_every_spelling_of_an_output(one: str, other: str) -> None:
    assert namespace_of(one) == namespace_of(other)


@pytest.mark.parametrize("other", ["s3://b/run", "gs://b/Run", "gs://b//run", "/b/run"])
def test_namespace_of_another_output_is_another(other: str) -> None:
    assert namespace_of("gs://b/run") != namespace_of(other)
