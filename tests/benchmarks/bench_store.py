"""How fast does a checkpoint come down, against one plain stream, and how long does it take to find
one among ten thousand?
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.decide.save_parts import dealt
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.transfer.staging import stage
from orchestrator.store.transfer.upload import upload
from orchestrator.training.state.state import State
from tests.benchmarks.figures import Figure, spread
from tests.fakes.bundles import model, write_checkpoint
from tests.servers.narrow_lines import narrow_lines
from tests.servers.programs import missing, running
from tests.store.big_state import GB
from tests.store.runs import source_of, uploaded
from tests.store.test_big_state import contents, state_of

STATE_MB, TURNS, CHECKPOINTS = 1024, 3, 10_000
SAVED_GB, SLICES = 4, 4
LINE_MB_PER_S, OVER_LINES_MB = 4, 512
"""Of one connection, so that ten of them are no more than a server on loopback takes."""
NARROWER_MB_PER_S = 1
"""So that twenty are."""
"""The client gets its bytes in slices, one after the other, so that memory holds them twice at most."""
Timed = Callable[[], object]


def _seconds(work: Timed) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _staging(kind: str, directory: Path) -> Figure:
    source_dir = directory / "source"
    if not source_dir.exists():
        rows = np.random.default_rng(0).random((STATE_MB * 1024, 256), dtype=np.float32)
        write_checkpoint(source_dir, "m-1", {"w": rows, "global_step": np.int64(1)})
    root = directory / f"server-{kind}"
    root.mkdir()
    with running(kind, root) as server:
        where = open_location(server.url("big"), **server.options())
        upload(sorted(source_dir.iterdir()), where)
        files = source_of(where).files
        data = max(files, key=lambda file: file.size_bytes)
        streams, ours = [], []
        one_stream: dict[str, Any] = {"max_concurrency": 1} if kind != "gcs" else {"concurrency": 1}
        for turn in range(TURNS):
            # Turn about, so that neither always gets the warmer server
            streams.append(
                _seconds(
                    lambda: where.fs.get_file(
                        data.location.path, str(directory / "stream"), **one_stream
                    )
                )
            )
            os.unlink(directory / "stream")
            cache = directory / f"cache-{kind}-{turn}"
            ours.append(_seconds(lambda cache=cache: stage(files, cache)))  # type: ignore[misc]
            shutil.rmtree(cache)
    ratio = statistics.median(streams) / statistics.median(ours)
    behind = f"fs.get {spread(streams, 's')}, staged and verified {spread(ours, 's')}"
    return Figure(
        f"staging {STATE_MB} MiB from {kind} over fs.get of one stream", ratio, 2.0, False, behind
    )


def _saving(kind: str, directory: Path) -> Figure:
    """All that a save sends against what the store's client sends of the same bytes, that lie in
    memory either way, in parts of its own.
    """
    state = state_of(SAVED_GB * GB)
    plain = np.random.default_rng(2).bytes(state.size_bytes // SLICES)

    def client(where: Location) -> None:
        for number in range(SLICES):
            where.fs.pipe_file(where.child(f"slice-{number}").path, plain)

    def save(where: Location) -> None:
        upload(contents(state.arrays), where)

    alone: list[float] = []
    ours: list[float] = []
    for turn in range(TURNS):
        # Turn about here, too; and what the last one left to the disk is written before the next
        for send, times in ((client, alone), (save, ours))[:: -1 if turn % 2 else 1]:
            os.sync()
            # A server of its own, since SeaweedFS has room for some gigabytes here, also of what is
            # deleted
            root = directory / f"saved-{kind}-{turn}-{send.__name__}"
            root.mkdir()
            with running(kind, root) as server:
                where = open_location(server.url("saved"), **server.options())
                times.append(_seconds(functools.partial(send, where)))
            shutil.rmtree(root)
    share = statistics.median(alone) / statistics.median(ours)
    behind = f"client alone {spread(alone, 's')}, saved {spread(ours, 's')}"
    name = f"{SAVED_GB} GB saved into {kind}, of what its client moves alone"
    return Figure(name, share, 0.8, False, behind)


def _saving_over_lines() -> Figure:
    """The same where the store gives each connection so much and no more, as real ones do."""
    state = state_of(OVER_LINES_MB * 10**6)
    plain = np.random.default_rng(2).bytes(state.size_bytes)
    times: dict[str, float] = {}
    for name in ("client", "save"):
        with (
            running("s3") as server,
            narrow_lines(server.port, LINE_MB_PER_S * 1e6) as lines,
        ):
            where = open_location(server.url("saved"), **server.options(lines.endpoint))
            if name == "client":
                send = functools.partial(where.fs.pipe_file, where.child("plain").path, plain)
            else:
                send = functools.partial(upload, contents(state.arrays), where)
            times[name] = _seconds(send)
    share = times["client"] / times["save"]
    behind = f"client alone {times['client']:.1f} s, saved {times['save']:.1f} s"
    name = (
        f"{OVER_LINES_MB} MB saved at {LINE_MB_PER_S} MB/s a connection, of what the client moves"
    )
    return Figure(name, share, 0.8, False, behind)


def _saving_by_two_over_lines() -> Figure:
    """Two ranks that write a half each, as ones with nodes of their own would, over one that writes
    all.
    """
    times: dict[int, list[float]] = {1: [], 2: []}
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawned) as pool:
        list(pool.map(_made, range(2)))  # both are there, and have imported what they need
        for ranks in (1, 2):
            with (
                running("s3") as server,
                narrow_lines(server.port, NARROWER_MB_PER_S * 1e6) as lines,
            ):
                where = server.url("saved"), server.options(lines.endpoint)
                sent = [pool.submit(_send_part, *where, rank, ranks) for rank in range(ranks)]
                times[ranks].append(max(done.result() for done in sent))
    ratio = statistics.median(times[1]) / statistics.median(times[2])
    behind = f"one rank {spread(times[1], 's')}, two {spread(times[2], 's')}"
    name = (
        f"{OVER_LINES_MB} MB saved by two ranks at {NARROWER_MB_PER_S} MB/s a connection, over one"
    )
    return Figure(name, ratio, 1.6, False, behind)


@functools.cache
def _state() -> State:
    return state_of(OVER_LINES_MB * 10**6)


def _made(_: int) -> int:
    time.sleep(1.0)  # so that the other process takes the other
    return _state().step


def _send_part(url: str, options: dict[str, Any], rank: int, ranks: int) -> float:
    """Send the variables that are dealt to a rank; how long it took, in seconds."""
    arrays = _state().arrays
    owners = dealt({name: array.nbytes for name, array in arrays.items()}, ranks)
    own = {name: array for name, array in arrays.items() if owners[name] == rank}
    files = contents(own, (rank, ranks))[:1]
    where = open_location(url, **options)
    return _seconds(lambda: upload(files, where))


def _foreign_ten_thousand(directory: Path) -> Figure:
    where = directory / "many"
    files = write_checkpoint(where, "m-1", model(1))
    for step in range(2, CHECKPOINTS + 1):
        for file in files:
            (where / file.name.replace("m-1", f"m-{step}", 1)).hardlink_to(file)
    times = [_seconds(lambda: resolve_source(str(where))) for _ in range(TURNS)]
    return Figure(
        f"resolving among {CHECKPOINTS} foreign checkpoints, s",
        statistics.median(times),
        2.0,
        True,
        spread(times, "s"),
    )


def _own_ten_thousand(directory: Path) -> list[Figure]:
    from orchestrator.store.checkpoints.source import newest_source
    from orchestrator.store.run.lineage import record_takeover

    output = open_location(str(directory / "run"))
    record_takeover(output, 1, 1, 0)
    manifest = uploaded(output, CHECKPOINTS)
    place = directory / "run" / manifest.directory
    (place / manifest.file_name).write_bytes(manifest.to_bytes())
    for step in range(1, CHECKPOINTS):
        for name in [*(record.name for record in manifest.files), manifest.file_name]:
            (place / name.replace(manifest.prefix, f"{manifest.name}-{step}", 1)).hardlink_to(
                place / name
            )
    listing = [_seconds(lambda: list_checkpoints(output)) for _ in range(TURNS)]
    newest = [_seconds(lambda: newest_source(output)) for _ in range(TURNS)]
    return [
        Figure(
            f"listing {CHECKPOINTS} checkpoints of a run, s",
            statistics.median(listing),
            2.0,
            True,
            spread(listing, "s"),
        ),
        Figure(
            f"newest good of {CHECKPOINTS} of a run, s",
            statistics.median(newest),
            2.0,
            True,
            spread(newest, "s"),
        ),
    ]


def figures(directory: Path) -> list[Figure]:
    """Staging from object stores, saving into one that keeps its data on disk, listing, resolving."""
    return [
        *(_staging(kind, directory) for kind in ("gcs", "s3", "weed") if not missing(kind)),
        *(_saving(kind, directory) for kind in ("weed",) if not missing(kind)),
        _saving_over_lines(),
        _saving_by_two_over_lines(),
        _foreign_ten_thousand(directory),
        *_own_ten_thousand(directory),
    ]
