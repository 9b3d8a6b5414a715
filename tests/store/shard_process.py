"""What does one rank of a sharded save, or of a resume from one, take of memory? A process of its
own: ``python -m tests.store.shard_process JOB.json`` prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np

from orchestrator.store.bundle.in_memory import BundleInMemory, TensorInMemory
from orchestrator.store.bundle.joint_crc import PartRead
from orchestrator.store.bundle.row_reader import RowReader
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.transfer.part_files import send_part
from orchestrator.store.transfer.upload import upload
from tests.store.slices import listed, shares


def resident(which: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def peak_of(work: Callable[[], object]) -> int:
    """The most that this process had in memory meanwhile, over what it had before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: proc(5)
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def rows_of(rows: int, columns: int, start: int, stop: int) -> np.ndarray:
    """Numbers that tell their row: what every process of a test knows of the table."""
    out = np.empty((stop - start, columns), np.float32)
    out[:] = (np.arange(start, stop) % 65521)[:, None]
    out += np.arange(columns) / 1024
    return out


def save(where: Location, rank: int, ranks: int, rows: int, columns: int) -> dict[str, object]:
    """Saves this rank's rows."""
    start, stop = shares(rows, ranks)[rank]
    share = rows_of(rows, columns, start, stop)
    content = share.reshape(-1).view(np.uint8).data

    def work() -> None:
        block = ((start, stop - start), (0, columns))
        tensors = [
            TensorInMemory(
                "emb",
                "float32",
                share.shape,
                (content,),
                whole_shape=(rows, columns),
                extents=block,
            )
        ]
        if rank == 0:
            tensors.append(TensorInMemory("global_step", "int64", (), (np.int64(5).tobytes(),)))
        bundle = BundleInMemory("m-5", tensors, rank, ranks)
        told.append(bundle.report())
        told.append(send_part([bundle.data()], where))

    told: list[object] = []
    over = peak_of(work)
    planted = peak_of(lambda: share.copy())
    return {
        "over": over,
        "planted": planted,
        "share": share.nbytes,
        "told": pickle.dumps(told).hex(),
    }


def load(where: Location, rank: int, ranks: int, rows: int, columns: int) -> dict[str, object]:
    """Reads this rank's rows."""
    start, stop = shares(rows, ranks)[rank]
    index, files = listed(where, "m-5")
    share = np.ones((stop - start, columns), np.float32)
    reads: list[PartRead] = []
    memory = share.reshape(-1).view(np.uint8).data
    over = peak_of(lambda: reads.extend(RowReader(index, files).read("emb", start, stop, memory)))
    same = google_crc32c.value(memory.tobytes()) == google_crc32c.value(
        rows_of(rows, columns, start, stop).tobytes()
    )
    return {"over": over, "share": share.nbytes, "same": same, "told": pickle.dumps(reads).hex()}


def main(job: Path) -> None:
    """Do what a file of JSON says."""
    given = json.loads(job.read_text())
    where = open_location(given["url"], **given["options"])
    with tempfile.TemporaryDirectory() as scratch:
        # the client and its threads are there before anything is measured
        small = Path(scratch) / f"warm-{os.getpid()}"
        small.write_bytes(b"warm" * 64)
        upload([small], where)
        where.child(small.name).read_bytes(0, 8)
    act = {"save": save, "load": load}[given["act"]]
    sys.stdout.write(
        json.dumps(act(where, *(given[name] for name in ("rank", "ranks", "rows", "columns"))))
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
