"""Is a tensor taken for good only where all of its bytes came in order and are the ones that were
saved?
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from orchestrator.store.bundle.bundle import BundleIndex, BundleTensor, read_index
from orchestrator.store.transfer import staging
from orchestrator.store.transfer.staging import stage
from orchestrator.store.transfer.streaming_crc import Arriving
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import write_checkpoint
from tests.servers.object_stores import HttpStore
from tests.store.runs import source_of


@pytest.fixture
def saved(tmp_path: Path) -> tuple[BundleIndex, bytes]:
    values = {
        f"w{number}": np.random.default_rng(number).random(37 * (number + 1)) for number in range(9)
    }
    write_checkpoint(
        tmp_path, "m-1", {**values, "empty": np.zeros((0, 3)), "global_step": np.int64(1)}
    )
    index = read_index((tmp_path / "m-1.index").read_bytes(), "m-1.index")
    return index, (tmp_path / "m-1.data-00000-of-00001").read_bytes()


def show(arriving: Arriving, data: bytes, start: int, end: int, seed: int = 0) -> None:
    choose = random.Random(seed)
    consumer = arriving.consumer(start)
    while start < end:
        size = choose.randrange(1, 900)
        consumer(memoryview(data)[start : min(start + size, end)])
        start += size


@pytest.mark.parametrize("seed", range(5))
def test_all_tensors_of_one_stream_are_good(saved: tuple[BundleIndex, bytes], seed: int) -> None:
    index, data = saved
    arriving = Arriving(index, 0)
    show(arriving, data, 0, len(data), seed)
    assert (
        {piece for piece in index.pieces if piece.size_bytes} <= arriving.good <= set(index.pieces)
    )


def test_tensor_that_two_streams_share_is_left_to_be_read(saved: tuple[BundleIndex, bytes]) -> None:
    index, data = saved
    halved = index.entries["w5"]
    middle = halved.offset + halved.size_bytes // 2
    arriving = Arriving(index, 0)
    show(arriving, data, middle, len(data))
    show(arriving, data, 0, middle)
    assert {piece for piece in index.pieces if piece.size_bytes} - arriving.good == {halved}


def test_damaged_tensor_is_not_good_and_its_neighbours_are(
    saved: tuple[BundleIndex, bytes],
) -> None:
    index, data = saved
    damaged = index.entries["w3"]
    spoilt = bytearray(data)
    spoilt[damaged.offset + 5] ^= 1
    arriving = Arriving(index, 0)
    show(arriving, bytes(spoilt), 0, len(data))
    assert {piece for piece in index.pieces if piece.size_bytes} - arriving.good == {damaged}


def test_other_data_files_have_no_part_in_it(saved: tuple[BundleIndex, bytes]) -> None:
    index, data = saved
    arriving = Arriving(index, 1)
    show(arriving, data, 0, len(data))
    assert arriving.good == set()


def test_stage_reads_nothing_again_that_came_in_one_stream(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(
        tmp_path / "src",
        "m-1",
        {"w": np.random.default_rng(0).random((50_000, 8)), "global_step": np.int64(1)},
    )
    upload(sorted((tmp_path / "src").iterdir()), http_store.direct)
    left: list[BundleTensor] = []
    real = staging.damaged_tensors  # type: ignore[attr-defined]

    def looked(index: BundleIndex, files: object, known: frozenset[BundleTensor]) -> list[str]:
        left.extend(piece for piece in index.pieces if piece not in known)
        return real(index, files, known)  # type: ignore[arg-type]

    monkeypatch.setattr(staging, "damaged_tensors", looked)
    prefix = stage(source_of(http_store.root).files, tmp_path / "cache")
    assert left == []
    assert (
        Path(f"{prefix}.data-00000-of-00001").read_bytes()
        == (tmp_path / "src" / "m-1.data-00000-of-00001").read_bytes()
    )


def test_download_in_streams_that_divide_the_file_is_whole(
    http_store: HttpStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ramp that has learned that eight are best, and pieces small enough for this file."""
    from orchestrator.store.transfer import download as downloading
    from orchestrator.store.transfer.work_stealing import Ramp

    file = tmp_path / "file"
    file.write_bytes(np.random.default_rng(0).bytes(6_000_000))
    upload([file], http_store.direct)
    monkeypatch.setattr(downloading, "SMALLEST_BYTES", 100_000)
    ramp = Ramp(8)
    ramp.streams = 8
    before = len(http_store.proxy.requests)
    downloading.download(http_store.root.list()[0], tmp_path / "copy", ramp=ramp)
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()
    asked = [
        request
        for request in http_store.proxy.requests[before:]
        if request.method == "GET" and b"bytes=" in request.head.lower()
    ]
    assert len(asked) > 1, "nobody took a part over"
