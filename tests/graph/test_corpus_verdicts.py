"""Every third-party checkpoint has an expected verdict: what trains it, what it has to be fed, or
which problems stop it.

``corpus_verdicts.json`` holds for each entry the verdict with an input function (``served``) and
without anything (``alone``). The expectations were compared by hand with what plain TensorFlow did
(``corpus.tsv``); a change in them is a change of behaviour.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from launch.runs.inspectable import look_at
from orchestrator.config import RunConfig
from orchestrator.graph.check import CheckReport, check
from orchestrator.graph.inspect import inspect
from tests.conftest import CORPUS
from tests.turns import quick_in_turn

pytestmark = pytest.mark.turns(3)

VERDICTS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "corpus_verdicts.json").read_text()
)


@cache
def _looked_at(entry: str) -> Any:
    return look_at(str(CORPUS / f"{entry}.meta"))


def verdict(entry: str, **values: Any) -> dict[str, Any]:
    """The parts of a check's report that are expected of an entry."""
    seen = _looked_at(entry)
    config = RunConfig.model_validate({"source": entry, "workers": 2, **values})
    return _in_short(check(seen.meta, config, checkpoint=seen.keys, also=seen.problems))


def _in_short(report: CheckReport) -> dict[str, Any]:
    graph = report.plan.worker_graph
    return {
        "resumes": report.resumes,
        "errors": sorted(
            {problem.code for problem in report.problems if problem.severity == "error"}
        ),
        "warnings": sorted(
            {problem.code for problem in report.problems if problem.severity == "warning"}
        ),
        "train_ops": [target.op for target in graph.targets]
        if graph
        else [item.op for item in report.plan.candidates],
        "inputs": [port.name for port in graph.inputs] if graph else [],
        "step": graph.step.variable if graph and graph.step else None,
    }


def test_verdicts_cover_every_entry_of_the_corpus(corpus: Path) -> None:
    rows = (corpus / "corpus.tsv").read_text().splitlines()[1:]
    assert {row.split("\t")[0] for row in rows} == set(VERDICTS)


@pytest.mark.slow
@pytest.mark.parametrize("entry", VERDICTS)
@pytest.mark.usefixtures("corpus")
def test_check_of_a_third_party_checkpoint_with_inputs_served_gives_its_verdict(entry: str) -> None:
    assert verdict(entry, input="module:function") == VERDICTS[entry]["served"]


@pytest.mark.parametrize("entry", quick_in_turn(VERDICTS, 8))
@pytest.mark.usefixtures("corpus")
def test_check_of_a_third_party_checkpoint_alone_gives_its_verdict(entry: str) -> None:
    found = verdict(entry)
    assert {key: found[key] for key in ("resumes", "errors")} == VERDICTS[entry]["alone"]


@pytest.mark.parametrize(
    "entry",
    [
        entry
        for entry, expected in VERDICTS.items()
        if "variables-missing" in expected["served"]["errors"]
    ],
)
@pytest.mark.usefixtures("corpus")
def test_check_of_a_third_party_checkpoint_that_lacks_weights_resumes_with_init_missing(
    entry: str,
) -> None:
    assert verdict(entry, input="module:function", init_missing=True)["resumes"]


@pytest.mark.parametrize("entry", quick_in_turn(VERDICTS, 8))
@pytest.mark.usefixtures("corpus")
def test_inspect_of_a_third_party_checkpoint_agrees_with_its_verdict(entry: str) -> None:
    seen = _looked_at(entry)
    report = inspect(seen.meta, source=entry, size_bytes=seen.size_bytes, checkpoint=seen.keys)
    expected = VERDICTS[entry]["served"]
    assert list(report.chosen_train_ops) == expected["train_ops"]
    needed = {item.name for item in report.inputs if item.needed}
    assert set(expected["inputs"]) <= needed
    if expected["resumes"]:
        assert report.checkpoint is not None
        assert report.checkpoint.different == ()


def write_verdicts(path: Path) -> None:
    """Write down what is found now; to be read through before it's committed."""
    rows = (CORPUS / "corpus.tsv").read_text().splitlines()[1:]
    found = {}
    for entry in sorted(row.split("\t")[0] for row in rows):
        alone = verdict(entry)
        served = verdict(entry, input="module:function")
        found[entry] = {
            "served": served,
            "alone": {key: alone[key] for key in ("resumes", "errors")},
        }
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    write_verdicts(Path(tempfile.gettempdir()) / "corpus_verdicts.json")
