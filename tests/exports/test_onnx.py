"""An ONNX model gives what `infer` gives; whether tf2onnx is here is asked first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config import parse_config
from orchestrator.driver.infer import infer
from orchestrator.errors import ConfigError, OutputError
from orchestrator.exports import onnx_extra
from orchestrator.exports.frozen import export_graph
from tests import forked

RUN = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
(found,) = session.run(None, {session.get_inputs()[0].name: np.load(sys.argv[2])})
np.save(sys.argv[3], found)
"""


@pytest.mark.tf
@pytest.mark.usefixtures("forked_tensorflow")
def test_onnx_model_gives_what_infer_gives(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    for name in onnx_extra.ONNX:
        pytest.importorskip(name, reason="the extra onnx isn't installed", exc_type=ImportError)
    prefix, url = tf1_checkpoint("mlp"), str(tmp_path / "out")
    found = export_graph(parse_config({"source": str(prefix)}), url, to="onnx")
    assert (found.files, found.compared) == (("model.onnx",), 2)
    assert found.made_by.startswith("tf2onnx ")
    assert [one.tensor for one in found.inputs] == ["x:0"]
    batch = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", batch)
    done = forked.run(RUN, tmp_path / "out" / "model.onnx", tmp_path / "x.npy", tmp_path / "y.npy")
    assert done.returncode == 0, done.stderr
    feed = {"x:0": json.dumps(batch.tolist())}
    (expected,) = infer(parse_config({"source": str(prefix), "feed": feed}), [])
    (value,) = expected.values()
    assert np.allclose(np.load(tmp_path / "y.npy"), value, rtol=0, atol=1e-6)
    again = export_graph(parse_config({"source": str(prefix)}), url, to="onnx")
    assert (again.already, again.made_by) == (True, found.made_by)


def test_missing_extra_is_told_before_the_source_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_extra, "find_spec", lambda name: None)
    config = parse_config({"source": str(tmp_path / "nothing")})
    with pytest.raises(ConfigError, match="takes tf2onnx, onnx, onnxruntime"):
        export_graph(config, str(tmp_path / "out"), to="onnx")


@pytest.mark.tf
def test_directory_that_is_not_empty_is_refused_before_tensorflow_is_asked(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").touch()
    monkeypatch.setattr("orchestrator.exports.frozen.checked", None)  # it isn't come to
    with pytest.raises(OutputError, match=r"isn't empty \(mine.txt\)"):
        export_graph(
            parse_config({"source": str(tf1_checkpoint("mlp"))}), str(tmp_path), to="frozen"
        )
