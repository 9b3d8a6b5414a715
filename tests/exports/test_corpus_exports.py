"""Third-party checkpoints become graphs that give what the trained graph gives, or are refused for
a reason that is the graph's own.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from orchestrator.config import parse_config
from orchestrator.errors import OrchestratorError
from orchestrator.exports.frozen import export_graph
from orchestrator.exports.graph_check import ONNX_TOLERANCE, TOLERANCE
from orchestrator.exports.graph_files import GraphFormat
from orchestrator.exports.onnx_extra import ONNX
from tests.exports.test_export import _entries

pytestmark = [
    pytest.mark.tf,
    pytest.mark.turns(20),
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("corpus", "forked_tensorflow"),
]

TABLE = "is a lookup table, which a graph of constants can't hold"
NO_INPUTS = "no graph without inputs"
REFUSED: dict[GraphFormat, dict[str, str]] = {
    "frozen": {
        "taiguangxing__Wide_n_deep": TABLE,
        "Lapis-Hong__wide_deep_demo": TABLE,
        "aries-M__my_deepwalk": "CandidateSampler draws random numbers",
    },
    "saved-model": {"aries-M__my_deepwalk": "CandidateSampler draws random numbers"},
    "onnx": {
        "taiguangxing__Wide_n_deep": TABLE,
        "Lapis-Hong__wide_deep_demo": TABLE,
        "aries-M__my_deepwalk": "tf2onnx can't convert LogUniformCandidateSampler",
        "criteo-research__tf-tile": "tf2onnx can't convert Bucketize",
        "Hiroki9759__learning-tensorflow": NO_INPUTS,
        "xuwening__tensorflowDemo": NO_INPUTS,
        "lewis-od__Quantum-Optics": NO_INPUTS,
    },
}
"""Why an entry can't become a graph of that format, by its repository: what feeds it a table or a
constant, or samples, is in the graph itself.
"""


@pytest.mark.parametrize("to", list(REFUSED))
@pytest.mark.parametrize("entry", _entries())
def test_third_party_checkpoint_becomes_a_graph_that_gives_the_same_or_says_why_not(
    corpus: Path, tmp_path: Path, entry: str, to: GraphFormat
) -> None:
    if to == "onnx" and not all(find_spec(name) for name in ONNX):
        pytest.skip("tf2onnx and onnxruntime aren't installed: the extra onnx")
    reason = REFUSED[to].get(entry.partition("/")[0])
    config = parse_config({"source": str(corpus / entry)})
    if reason is not None:
        with pytest.raises(OrchestratorError, match=reason):
            export_graph(config, str(tmp_path / "out"), to=to)
        assert not (tmp_path / "out").exists()
        return
    found = export_graph(config, str(tmp_path / "out"), to=to)
    assert found.compared == 2
    assert found.difference <= (ONNX_TOLERANCE if to == "onnx" else TOLERANCE)
    assert (tmp_path / "out" / "export.json").exists()
