"""Does the model of what a large state takes count as the kernel does?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestrator.store.bundle.in_memory import BundleInMemory, TensorInMemory
from orchestrator.store.objects.content import Content
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.traffic import MOVED
from orchestrator.store.transfer.multipart import IN_FLIGHT_BYTES, MAX_PARTS
from orchestrator.store.transfer.staging import stage
from orchestrator.store.transfer.upload import upload
from orchestrator.training.state.large_tensors import index_of, large_tensor
from orchestrator.training.state.sizes import sizes
from orchestrator.training.state.state import State, checksums, nonfinite
from tests.fakes.bundles import meta_bytes
from tests.servers.object_stores import HttpStore
from tests.store.big_state import GB, Rates, hand_over, parts, restore, save, table

MIB = 1 << 20
DOC = Path(__file__).parents[2] / "docs" / "scale.md"


def counters() -> dict[str, int]:
    """Bytes that this process asked the kernel to read and to write, of files and of sockets."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def size_of(field: str) -> int:
    (line,) = (
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(f"{field}:")
    )
    return int(line.split()[1]) * 1024


def contents(arrays: dict[str, np.ndarray], part: tuple[int, int] = (0, 1)) -> list[Content]:
    tensors = [
        TensorInMemory(name, "float32", array.shape, (array.reshape(-1).view(np.uint8).data,))
        for name, array in sorted(arrays.items())
    ]
    bundle = BundleInMemory("m-5", tensors, *part)
    return [bundle.data(), bundle.index()]


def state_of(size_bytes: int) -> State:
    """Eight variables that hold so many bytes together."""
    draw = np.random.default_rng(1)
    rows = size_bytes // 8 // 4 // 256
    return State(5, {f"v{number}": draw.random((rows, 256), np.float32) for number in range(8)})


def grown_by(work: Callable[[], None]) -> tuple[int, int]:
    """Bytes that were written, and by how much this process was larger than before."""
    Path("/proc/self/clear_refs").write_text("5")  # the greatest size is counted anew
    before, wrote = size_of("VmRSS"), counters()["wchar"]
    work()
    return counters()["wchar"] - wrote, size_of("VmHWM") - before


def save_of(state: State, output: Location) -> None:
    """What a writer does with its copy, but for the message to the driver."""
    checksums(state)
    nonfinite(state)
    upload(contents(state.arrays), output)


@pytest.mark.slow
def test_save_writes_each_byte_once_and_keeps_no_copy_of_the_state(tmp_path: Path) -> None:
    state = state_of(192 * MIB)
    output = open_location(str(tmp_path))
    moved = MOVED.size_bytes
    written, grown = grown_by(lambda: save_of(state, output))
    cost = save(state.size_bytes, Rates(), local=True)
    assert cost.written <= written <= 1.02 * cost.written
    assert grown <= cost.memory - state.size_bytes + 48 * MIB, f"{grown >> 20} MiB"
    # Compared, added up, written
    assert MOVED.size_bytes - moved == pytest.approx(3 * state.size_bytes, rel=0.01)


@pytest.mark.slow
def test_restore_reads_each_byte_once_and_needs_the_state_in_memory_once(tmp_path: Path) -> None:
    state = state_of(96 * MIB)
    source = tmp_path / "src"
    upload(contents(state.arrays), open_location(str(source)))
    (source / "m-5.meta").write_bytes(meta_bytes({"v0": np.float32(0)}))
    prefix = str(source / "m-5")
    Path("/proc/self/clear_refs").write_text("5")
    before, read = size_of("VmRSS"), counters()["rchar"]
    index = index_of(prefix)
    assert index is not None
    dtype = np.dtype("float32")
    read_back = {name: large_tensor(index, prefix, name, dtype) for name in state.arrays}
    cost = restore(state.size_bytes, Rates(), cached=True)
    assert cost.read <= counters()["rchar"] - read <= 1.02 * cost.read
    assert size_of("VmHWM") - before <= cost.memory + 32 * MIB
    for name, array in state.arrays.items():
        np.testing.assert_array_equal(read_back[name], array)


@pytest.mark.slow
@pytest.mark.http
def test_checkpoint_lies_once_on_a_node_that_fetched_it(
    http_store: HttpStore, tmp_path: Path
) -> None:
    state = state_of(24 * MIB)
    upload(contents(state.arrays), http_store.direct)
    http_store.direct.child("m-5.meta").write_bytes(meta_bytes({"v0": np.float32(0)}))
    here = [item for item in http_store.direct.list() if item.name.startswith("m-5.")]
    stage(here, tmp_path / "cache")
    on_disk = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert on_disk == pytest.approx(restore(state.size_bytes, Rates()).disk, rel=0.02)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_four_gigabytes_go_through_the_same_memory_as_a_small_state(tmp_path: Path) -> None:
    state = state_of(4 * GB)
    output = open_location(str(tmp_path))
    written, grown = grown_by(lambda: save_of(state, output))
    assert state.size_bytes <= written <= 1.01 * state.size_bytes
    assert grown <= 64 * MIB, f"{grown >> 20} MiB"
    prefix = str(tmp_path / "m-5")
    index = index_of(prefix)
    assert index is not None
    for name, array in state.arrays.items():
        read = large_tensor(index, prefix, name, np.dtype("float32"))
        assert read is not None
        assert np.array_equal(read, array)


@pytest.mark.parametrize("size_gb", [1, 50, 100, 150, 1000])
def test_parts_of_a_large_file_fit_what_stores_and_memory_allow(size_gb: int) -> None:
    count, in_flight = parts(size_gb * GB)
    assert count <= MAX_PARTS
    assert in_flight >= 1
    assert save(size_gb * GB, Rates()).memory <= size_gb * GB + 4 * IN_FLIGHT_BYTES


def test_sizes_of_a_state_are_measured_without_a_copy_of_it() -> None:
    state = state_of(64 * MIB)
    Path("/proc/self/clear_refs").write_text("5")
    before = size_of("VmRSS")
    assert nonfinite(state) == ()
    assert sizes(state, ()) is not None
    assert size_of("VmHWM") - before <= 32 * MIB


def test_document_has_the_tables_that_the_model_computes() -> None:
    text = DOC.read_text()
    for size_gb in (4, 50, 100):
        assert table(size_gb * GB) in text
    assert hand_over(100 * GB, Rates()).network == 100 * GB
