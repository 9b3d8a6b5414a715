"""Does a worker fetch its checkpoint while it's still importing TensorFlow?"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.store.candidates import group
from orchestrator.store.upload import upload
from orchestrator.store.verification import check
from orchestrator.workers.orders import CheckpointFiles, Setup
from orchestrator.workers.real_tools import RealTools
from tests.fakes.bundles import model, write_checkpoint
from tests.servers.object_stores import HttpStore


def test_start_checkpoint_comes_down_while_tensorflow_is_not_even_imported(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    write_checkpoint(tmp_path / "src", "m-5", model(5))
    upload(sorted((tmp_path / "src").iterdir()), http_store.direct)
    files = check(group(http_store.root, http_store.root.list())["m-5"]).files
    fault = http_store.proxy.spoil("hang", "GET", ".data-", times=1000)
    imported = "tensorflow" in sys.modules
    start = CheckpointFiles(5, 0, http_store.root.child("m-5").url, files)
    tools = RealTools(cast(Setup, SimpleNamespace(start=start)))  # a worker's constructor; it hasn't been asked to load yet
    deadline = time.monotonic() + 10
    while not fault.fired:
        assert time.monotonic() < deadline, "nothing was asked for"
        time.sleep(0.01)
    assert ("tensorflow" in sys.modules) == imported
    staged: Any = tools._stage(start)
    assert not staged.done()
    fault.end()
    assert Path(f"{staged.result(30)}.index").read_bytes() == (tmp_path / "src" / "m-5.index").read_bytes()
