"""Every reason why a pipeline can't run is told, with what would bring it back and what to supply
instead.
"""

from __future__ import annotations

import pytest

from orchestrator.graph.inputs.diagnosis import Facts, Outside, dead_pipeline, problems_of
from orchestrator.graph.inputs.pipeline import Files, Output, Pipeline, PipelineStage, PythonCall

OUTPUT = Output("next:0", "float32", (None, 6))


def pipeline(**fields: object) -> Pipeline:
    given: dict[str, object] = {
        "starters": ("make",),
        "stages": (PipelineStage("TextLineDataset", "lines"),),
    } | fields
    return Pipeline("it", "iterator", "IteratorV2", (OUTPUT,), ("next",), **given)  # type: ignore[arg-type]


FILES = Files("TextLineDataset", "lines", ("/old/a.csv", "/old/b.csv"), "constant")
PLAIN = PythonCall("pyfunc_4", "augment", "function", ("float32",), ("float32",))
GENERATOR = tuple(
    PythonCall(
        f"pyfunc_{number}",
        f"call{number}",
        role,  # type: ignore[arg-type]
        ("int64",),
        ("float32", "int64"),
        generator="rows",
    )
    for number, role in enumerate(("generator-start", "generator-next", "generator-end"))
)


@pytest.mark.parametrize(
    ("described", "facts", "codes"),
    [
        (pipeline(), Facts(), []),
        (pipeline(files=(FILES,)), Facts(), []),
        (pipeline(files=(FILES,)), Facts(outside=Outside(missing=lambda name: False)), []),
        (
            pipeline(files=(FILES,)),
            Facts(outside=Outside(missing=lambda name: "b.csv" in name)),
            ["pipeline-files-missing"],
        ),
        (pipeline(calls=(PLAIN,)), Facts(), ["pipeline-python-lost"]),
        (pipeline(calls=(PLAIN,)), Facts({"pyfunc_4"}), []),
        (pipeline(calls=(PLAIN,)), Facts({"pyfunc_5"}), ["pipeline-python-lost"]),
        (pipeline(calls=GENERATOR), Facts(), ["pipeline-python-lost"]),
        (pipeline(calls=GENERATOR), Facts({"pyfunc_1"}), []),
        (pipeline(calls=GENERATOR), Facts({"pyfunc_0", "pyfunc_2"}), ["pipeline-python-lost"]),
        (pipeline(placeholders=(("x", "float32", (6,)),)), Facts(), ["pipeline-fed-by-process"]),
        (pipeline(starters=("one", "two")), Facts(), ["pipeline-ambiguous"]),
        (pipeline(starters=()), Facts(), ["pipeline-not-started"]),
        (pipeline(handle=True), Facts(), ["pipeline-not-started"]),
        (
            pipeline(files=(Files("ReadFile", "read", (), "computed"),)),
            Facts(),
            ["pipeline-unnamed-files"],
        ),
        (
            pipeline(),
            Facts(outside=Outside(unbuildable={"it": "too old"})),
            ["pipeline-unbuildable"],
        ),
        (
            pipeline(calls=(PLAIN,), files=(FILES,), placeholders=(("x", "float32", ()),)),
            Facts(outside=Outside(missing=lambda name: True)),
            ["pipeline-python-lost", "pipeline-fed-by-process", "pipeline-files-missing"],
        ),
    ],
)
def test_problems_of_a_pipeline_are_all_found(
    described: Pipeline, facts: Facts, codes: list[str]
) -> None:
    assert [cause.code for cause in problems_of(described, facts)] == codes


def test_dead_pipeline_that_nobody_replaces_says_what_to_serve_with_dtype_and_shape() -> None:
    facts = Facts(outside=Outside(missing=lambda name: True))
    described = pipeline(files=(FILES,))
    (cause,) = problems_of(described, facts)
    problem = dead_pipeline(described, cause, facts)
    assert problem.severity == "error"
    assert "2 of the 2 files that it reads are not there: /old/a.csv, /old/b.csv" in problem.message
    assert "--path-map /old/=NEW" in problem.remedy
    assert "next:0 (float32, shape [?, 6])" in problem.remedy
    assert problem.nodes == ("lines",)


def test_dead_pipeline_whose_batches_are_supplied_is_a_warning() -> None:
    facts = Facts(supplied=lambda tensor: tensor == "next:0")
    described = pipeline(calls=(PLAIN,))
    (cause,) = problems_of(described, facts)
    assert dead_pipeline(described, cause, facts).severity == "warning"


def test_lost_generator_names_the_one_token_that_needs_a_function_and_what_it_yields() -> None:
    (cause,) = problems_of(pipeline(calls=GENERATOR), Facts())
    assert "--py-func pyfunc_1=MODULE:FUNCTION" in cause.remedy
    assert "(float32, int64)" in cause.remedy
    assert "pyfunc_0, pyfunc_1, pyfunc_2" in cause.why
