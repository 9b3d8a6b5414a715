"""Does a worker fetch its checkpoint while it's still importing TensorFlow?"""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.errors import StorageUnavailable
from orchestrator.graph.worker_tables import NO_TABLES
from orchestrator.store.checkpoints.candidates import group
from orchestrator.store.checkpoints.verification import check
from orchestrator.store.objects.content import MemoryContent
from orchestrator.store.objects.location import open_location
from orchestrator.store.transfer.upload import upload
from orchestrator.workers.orders import CheckpointFiles, Setup
from orchestrator.workers.runtime import RealTools
from tests.fakes.bundles import model, write_checkpoint
from tests.servers.object_stores import HttpStore

GRAPH = SimpleNamespace(step="global_step", tables=NO_TABLES)


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
    # a worker's constructor; it hasn't been asked to load yet
    tools = RealTools(cast(Setup, SimpleNamespace(start=start, graph=GRAPH)))
    deadline = time.monotonic() + 10
    while not fault.fired:
        assert time.monotonic() < deadline, "nothing was asked for"
        time.sleep(0.01)
    assert ("tensorflow" in sys.modules) == imported
    staged: Any = tools._staging[start.prefix]
    assert not staged.done()
    fault.end()
    assert (
        Path(f"{staged.result(30)}.index").read_bytes()
        == (tmp_path / "src" / "m-5.index").read_bytes()
    )


def test_checkpoint_that_could_not_be_fetched_is_fetched_when_it_is_wanted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that was down at the start used to stay down for this worker for ever."""
    answers: list[Any] = [StorageUnavailable("503"), StorageUnavailable("503"), tmp_path / "m-5"]

    def stage(_files: object, cache: Path) -> Path:
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Path(answer)

    monkeypatch.setattr("orchestrator.store.transfer.staging.stage", stage)
    start = CheckpointFiles(5, 0, "s3://b/m-5", ())
    setup = SimpleNamespace(
        start=start,
        config=SimpleNamespace(init_missing=False),
        graph=GRAPH,
    )
    tools = RealTools(cast(Setup, setup))
    tools._trainer = SimpleNamespace(load_checkpoint=lambda prefix, **_: prefix)
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            tools.checkpoint_state(start, (0, 1))
    assert tools.checkpoint_state(start, (0, 1)) == str(tmp_path / "m-5")


def test_progress_of_a_save_can_be_seen_while_it_is_checked_and_sent(tmp_path: Path) -> None:
    tools = RealTools(cast(Setup, SimpleNamespace(start=None, graph=GRAPH)))
    before = tools.moved_bytes()
    content = MemoryContent("m-5.data-00000-of-00001", [bytes(1000)])
    upload([content], open_location(str(tmp_path)))
    assert tools.moved_bytes() >= before + 1000


@pytest.mark.slow
def test_standby_has_imported_what_input_functions_use_at_their_first_batch() -> None:
    """NumPy imports it when it's first used."""
    program = (
        "import sys\nfrom types import SimpleNamespace as Given\n"
        "from orchestrator.workers.runtime import RealTools\n"
        "options, config = Given(gpu=False), Given(input='')\n"
        "tools = RealTools(Given(start=None, options=options, config=config))\n"
        "assert 'numpy.random' not in sys.modules\n"
        "tools.import_input()\nassert 'numpy.random' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
