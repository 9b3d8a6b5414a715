"""A worker kills itself at a stated place of its own work, when a test says so.

Rule: the faults live in what a user brings along (input function, the graph's Python functions,
which tell exactly how far a step is) and around seams of the worker's process (the snapshot, the
upload, forming a group), wrapped when the run's input file is loaded; the product has no hook. A
file says which shots are due; each leaves a file of its own behind. ``script.Script`` is the test's
side.

Places: ``feed``, ``forward``, ``on the way back``, ``adding up``, ``between exchange and apply``,
``first step``, ``snapshot``, ``upload``, ``re-form``, ``handing over``. Where the process lives on:
``applied elsewhere``, without the step that its peers have taken and without having computed it,
and ``cut off``, when it has computed a step and its peers have the result.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.chaos.batches import fast_batches

WAIT_S = 20.0
IDLE_STEP_S = 0.5
_here: list[Path] = []
_rank = [-1]


def bind(directory: str) -> None:
    """Follow the shots of the test that works in ``directory``; once per process."""
    if _here:
        return
    _here.append(Path(directory))
    _wrap_seams()


def batches(ctx: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """The usual batches; slowly while the test has nothing to shoot at."""
    _rank[0] = ctx.rank
    for number, batch in enumerate(fast_batches(ctx)):
        if ctx.position and number == 0:
            strike("first step")
        strike("feed")
        if (_here[0] / "idle").exists():
            time.sleep(IDLE_STEP_S)
        yield batch


def forward(array: np.ndarray) -> np.ndarray:
    """Called in the middle of the forward pass."""
    strike("forward")
    return array


def on_the_way_back(array: np.ndarray) -> np.ndarray:
    """Called when one gradient is computed and the other isn't yet."""
    strike("on the way back")
    return array


def reduced(array: np.ndarray) -> np.ndarray:
    """Called with the group's gradient, before it's applied."""
    strike("between exchange and apply")
    return array


def due(place: str, rank: int | None = None) -> Path | None:
    """The file that the shot at this place leaves behind, where it's due now."""
    try:
        shots = json.loads((_here[0] / "due").read_text())
    except FileNotFoundError:
        return None
    for shot in shots:
        hit = _here[0] / f"hit-{shot['number']}"
        if (
            shot["place"] == place
            and shot["rank"] == (_rank[0] if rank is None else rank)
            and not hit.exists()
        ):
            return hit
    return None


def strike(place: str, rank: int | None = None) -> None:
    """Die here, if that is due."""
    hit = due(place, rank)
    if hit is not None and mark(hit, place):
        os.kill(os.getpid(), signal.SIGKILL)


def mark(hit: Path, place: str) -> bool:
    """Whether this process is the one that the shot is for."""
    try:
        with hit.open("x") as file:
            file.write(place)
    except FileExistsError:
        return False
    return True


def _wrap_seams() -> None:
    from orchestrator.store.transfer import upload as uploads
    from orchestrator.training.group.blocks import Adder
    from orchestrator.training.host.host_group import HostGroup
    from orchestrator.training.state.snapshot import Snapshot
    from orchestrator.training.trainer import Trainer
    from orchestrator.workers.member import Member

    methods: list[tuple[type, str, Callable[..., Any]]] = [
        (Snapshot, "copy_all", _copy_all),
        (Trainer, "join", _join),
        (Adder, "add", _add),
        (Trainer, "assign", _assign),
        (Trainer, "step", _step),
        (HostGroup, "_exchange", _exchange),
        (Member, "held_state", _held_state),
    ]
    for owner, name, wrapper in methods:
        setattr(owner, name, functools.partialmethod(wrapper, getattr(owner, name)))
    uploads.upload = functools.partial(_upload, uploads.upload)


def _copy_all(snapshot: Any, real: Any, session: Any) -> Any:
    arrays = real(snapshot, session)
    strike("snapshot")
    return arrays


def _upload(real: Any, files: Any, directory: Any) -> Any:
    if due("upload") is not None:
        real(files[:1], directory)  # half of it is in the store
        strike("upload")
    return real(files, directory)


def _add(adder: Any, real: Any) -> None:
    strike("adding up")
    real(adder)


def _join(trainer: Any, real: Any, group: Any) -> None:
    real(trainer, group)
    if due("re-form", group.rank) is not None:
        # Not before the state has passed to somebody else: who dies with it alone is another test
        await_file(
            lambda: any(
                (_here[0] / f"assigned-{group.generation}-{rank}").exists()
                for rank in range(group.world_size)
            )
        )
        strike("re-form", group.rank)


def _assign(trainer: Any, real: Any, state: Any) -> None:
    real(trainer, state)
    (_here[0] / f"assigned-{trainer.group.generation}-{trainer.group.rank}").touch()


def _step(trainer: Any, real: Any, batches: Any) -> Any:
    hit = due("applied elsewhere")
    if hit is None:
        return real(trainer, batches)
    from orchestrator.errors import PeerLost

    before = trainer.state()
    real(trainer, batches)
    trainer.assign(before)
    mark(hit, "applied elsewhere")
    trainer.abandon()
    raise PeerLost("a connection broke after the peers had the sum and before this rank had it")


def _exchange(group: Any, real: Any, *args: Any) -> Any:
    found = real(group, *args)
    hit = due("cut off")
    if hit is not None:
        from orchestrator.errors import PeerLost

        mark(hit, "cut off")
        raise PeerLost("a connection broke after the peers had the sum and before this rank had it")
    return found


def _held_state(member: Any, real: Any) -> Any:
    strike("handing over")
    return real(member)


def await_file(there: Callable[[], bool]) -> None:
    """Wait for a condition of files, at most ``WAIT_S``."""
    deadline = time.monotonic() + WAIT_S
    while not there() and time.monotonic() < deadline:
        time.sleep(0.01)
