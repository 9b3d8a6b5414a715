"""Does every command in the documentation do what the page says it does? Each block is run as a
reader would type it.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from orchestrator.exports.onnx_extra import ONNX
from orchestrator.store.objects.location import open_location
from tests.docs.pages import Block, all_blocks
from tests.docs.shell import make_bucket, make_holders, make_pipeline, shell
from tests.graphs.holders import HOLDERS
from tests.launch.runs import recorded_run

pytestmark = pytest.mark.turns(16)


def _cases() -> list[object]:
    return [
        pytest.param(block, id=block.label, marks=_marks(block))
        for block in all_blocks("sh")
        if block.value != "jobs"
    ]


def _marks(block: Block) -> list[pytest.MarkDecorator]:
    if block.skip_reason:
        return [pytest.mark.skip(reason=f"{block.label}: {block.skip_reason}")]
    if block.value == "kubectl":
        return [
            pytest.mark.skipif(
                shutil.which("kubectl") is None, reason="kubectl isn't on this machine's PATH"
            )
        ]
    if block.value == "onnx":
        missing = [name for name in ONNX if find_spec(name) is None]
        return [
            pytest.mark.tf,
            pytest.mark.skipif(
                bool(missing), reason=f"{block.label}: {', '.join(missing)} isn't installed"
            ),
        ]
    return [pytest.mark.ray, pytest.mark.tf] if block.value == "ray" else [pytest.mark.tf]


@pytest.mark.parametrize("block", _cases())
def test_command_in_the_documentation_ends_as_the_page_says(
    block: Block, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bucket = tmp_path / "bucket"
    changes: dict[str, str] = {}
    if block.value != "kubectl":  # which wants no run
        make_bucket(request.getfixturevalue("tf1_checkpoint"), tmp_path)
    if "bucket/pipeline" in block.text:
        changes = make_pipeline(request.getfixturevalue("tf1_checkpoint"), bucket)
    if any(f"bucket/{kind}" in block.text for kind in HOLDERS):
        make_holders(request.getfixturevalue("tf1_checkpoint"), bucket)
    if not {"resume", "submit"} & {
        words[1] for words in block.commands if words[0] == "tfresume" and len(words) > 1
    }:
        recorded_run(open_location(str(bucket / "resumed"))).release()
    directory = tmp_path / "here"
    directory.mkdir()
    done = shell(block, bucket, directory, changes)
    assert done.returncode in block.exit_codes, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
