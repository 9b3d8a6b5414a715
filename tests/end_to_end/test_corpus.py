"""Does `tfresume resume` continue what strangers published? Every third-party checkpoint that plain
TensorFlow trains as it is.

Rule: two workers, three steps; variables changed, ranks agree (a difference at the save would be an
incident), plain TensorFlow loads the output. Batches are made by the plain feed rule of the
collection's own README.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.plan import plan
from orchestrator.graph.worker_graph import InputPort
from tests.conftest import CORPUS
from tests.end_to_end.commands import plain_variables, resumed

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.turns(24)]

INPUT_MODULE = """
import json, numpy as np
PORTS = json.loads({ports!r})

def batches(ctx):
    number = ctx.position + ctx.rank
    while True:
        rng = np.random.default_rng(number)
        yield {{
            name: (rng.random(shape) if np.dtype(dtype).kind == "f" else rng.integers(0, 2, shape)).astype(dtype)
            for name, dtype, shape in PORTS
        }}
        number += ctx.world_size
"""


def _rows() -> list[dict[str, str]]:
    if not (CORPUS / "corpus.tsv").is_file():
        return []
    with (CORPUS / "corpus.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    return [row for row in rows if row["plain_tf_result"].startswith("ok [as-is]")]


def _shape(port: InputPort) -> list[int]:
    """The plain feed rule: unknown dimensions are 4; of an unknown rank integers are ``[4]``,
    floats scalars.
    """
    if port.shape is None:
        return [4] if np.dtype(port.dtype).kind in "iu" else []
    return [4 if size is None else size for size in port.shape]


def _meta_path(row: dict[str, str]) -> Path:
    return CORPUS / f"{row['entry']}.meta"


def _input_module(meta: Path, scratch: Path) -> Path:
    planned = plan(
        read_meta(meta.read_bytes(), name=meta.name),
        parse_config({"source": str(meta), "input": "m:f"}),
        checkpoint=None,
    )
    assert planned.worker_graph is not None, planned.problems
    ports = [
        (port.name, port.dtype, _shape(port))
        for port in planned.worker_graph.inputs
        if not port.optional
    ]
    module = scratch / "synthetic.py"
    module.write_text(INPUT_MODULE.format(ports=json.dumps(ports)))
    return module


@pytest.mark.skipif(
    not _rows(), reason="the third-party checkpoints of ../shared/corpus are not on this machine"
)
@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["entry"].replace("/", "_"))
def test_resume_third_party_checkpoint_trains_on_two_workers_and_loads_in_plain_tensorflow(
    row: dict[str, str], tmp_path: Path, ray_address: str
) -> None:
    meta = _meta_path(row)
    result = resumed(
        *(
            meta,
            "--output",
            tmp_path / "out",
            "--workers",
            "2",
            "--steps",
            "3",
            "--address",
            ray_address,
        ),
        *("--input", f"{_input_module(meta, tmp_path)}:batches", "--init-missing"),
        "--accept-differences",  # with what a stranger fed nobody knows what is one batch
    )
    assert result["status"] == "done"
    assert result["final_step"] == result["start_step"] + 3
    assert result["incidents"] == []
    after = plain_variables(result["checkpoint"], tmp_path)
    if row["import_"] != "ok":
        return  # plain TensorFlow can't even import the source; it just did load what we made of it
    before = plain_variables(str(meta).removesuffix(".meta"), tmp_path)
    assert set(after) == set(before)
    assert any(not np.array_equal(before[name], after[name], equal_nan=True) for name in before)
