"""How is a graph of the table made: saved, fed, and what is expected of it in a group?

Rule: a pattern says of itself what a group makes of it, and ``test_patterns_tf`` holds the product
to that: ``equal``, it trains what one process with the joint batch trains; ``told``, it can't, and
the run or ``check`` says so; ``refused``, with the reason named, and one worker trains it still.
Where the mathematics would let a group train it all the same, the pattern says why it doesn't yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

WIDTH, ROWS, WORDS = 4, 4, 11
"""Rows of each slot; an even number, since towers split them. ``WORDS`` are in the vocabulary."""
SLOTS = (0, 1)
Outcome = Literal["equal", "told", "refused"]
Found = Literal["equal", "told", "refused", "wrong"]
"""What the product makes of a pattern; ``wrong``: another result, and nobody was told."""
Maker = Callable[[Any], Any]
Batch = dict[str, Any]
Serve = Callable[[np.random.Generator, int], Batch]
"""A generator and a number of rows give a batch, by tensor name."""


def dense(rng: np.random.Generator, rows: int) -> Batch:
    """Inputs ``x:0`` float32 ``[rows, 4]`` and ``y:0`` float32 ``[rows]``."""
    x = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    return {"x:0": x, "y:0": (x.sum(1) + rng.normal(size=rows)).astype(np.float32)}


def ids(rng: np.random.Generator, rows: int) -> Batch:
    """Inputs ``ids:0`` int32 ``[rows, 4]`` below ``WORDS``, with repetitions, and ``label:0``
    int32 ``[rows]`` below 3.
    """
    return {
        "ids:0": rng.integers(0, WORDS, (rows, WIDTH)).astype(np.int32),
        "label:0": rng.integers(0, 3, rows).astype(np.int32),
    }


def labelled(rng: np.random.Generator, rows: int) -> Batch:
    """Inputs ``x:0`` as ``dense`` has them and ``label:0`` int32 ``[rows]`` below 3."""
    return {"x:0": dense(rng, rows)["x:0"], "label:0": rng.integers(0, 3, rows).astype(np.int32)}


def images(rng: np.random.Generator, rows: int) -> Batch:
    """Inputs ``image:0`` float32 ``[rows, 6, 6, 2]`` and ``label:0`` int32 ``[rows]`` below 3."""
    return {
        "image:0": rng.normal(size=(rows, 6, 6, 2)).astype(np.float32),
        "label:0": rng.integers(0, 3, rows).astype(np.int32),
    }


@dataclass(frozen=True)
class Pattern:
    """A way of writing a training graph.

    Attributes:
        build: builds it into the default graph and returns the operation that trains, or several
            that are run in turn.
        outcome: what a group makes of it.
        saying: words of the refusal, of the proof or of the warning.
        serve: makes its batches.
        rows: of the two slots.
        apart: variables that differ from one process's, as patterns of their names.
        feeds: what is fed with the same value for the whole run.
        fixed: it takes one number of rows, so both slots and one process are fed the same batch.
        alike: the slots' batches hold the same rows in different orders, so that statistics which
            aren't linear agree too.
        functions: made with resource variables and functional control flow.
        renamed: operation type of nodes by the beginning of their names: what this TensorFlow can't
            make.
        by_rank: scalars that are fed with each batch: to either slot, and to one process.
        gap: why it isn't ``equal``, though one process's step could be put together from what the
            slots give; empty where it couldn't.
        settings: of the run's configuration, besides.
        way: settings with which a group trains it as one process does, where it doesn't without.
        tolerance: relative, of variables after some steps; half types round more.
        remedy: what to do, where it isn't what the outcome says.
    """

    build: Maker
    outcome: Outcome
    saying: str = ""
    apart: tuple[str, ...] = ()
    serve: Serve = dense
    rows: tuple[int, int] = (ROWS, ROWS)
    feeds: tuple[tuple[str, Any], ...] = ()
    fixed: bool = False
    alike: bool = False
    functions: bool = False
    renamed: tuple[tuple[str, str], ...] = ()
    remedy: str = ""
    by_rank: tuple[tuple[str, tuple[int, int, int]], ...] = ()
    gap: str = ""
    settings: tuple[tuple[str, Any], ...] = ()
    way: tuple[tuple[str, Any], ...] = ()
    tolerance: float = 1e-4

    @property
    def name(self) -> str:
        """The maker's name."""
        return self.build.__name__

    @property
    def seen(self) -> str:
        """The pattern in words."""
        return " ".join((self.build.__doc__ or "").split())


@dataclass(frozen=True)
class Made:
    """A saved graph: its prefix, the operations that train, the pattern."""

    prefix: Path
    ops: tuple[str, ...]
    pattern: Pattern

    def joint(self, step: int) -> Batch:
        """What one process is fed."""
        own = self.own(step)
        return {**(own[0] if self.pattern.fixed else joined(own)), **self._scalars(2)}

    def parts(self, step: int) -> list[Batch]:
        """What each of two slots is fed."""
        own = self.own(step)
        return [{**own[slot], **self._scalars(slot)} for slot in SLOTS]

    def own(self, step: int) -> list[Batch]:
        """The rows of each slot."""
        rng = np.random.default_rng(100 + step)
        first, second = (self.pattern.serve(rng, rows) for rows in self.pattern.rows)
        if self.pattern.alike:
            second = {name: value[::-1] for name, value in first.items()}
        return [first, first if self.pattern.fixed else second]

    def _scalars(self, at: int) -> Batch:
        return dict(self.pattern.feeds) | {name: of[at] for name, of in self.pattern.by_rank}


def joined(parts: list[Batch]) -> Batch:
    """All rows in one batch."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def make(pattern: Pattern, directory: Path) -> Made:
    """Build, initialise and save a pattern's graph."""
    import tensorflow

    tf = tensorflow.compat.v1
    (tf.enable_resource_variables if pattern.functions else tf.disable_resource_variables)()
    (tf.enable_control_flow_v2 if pattern.functions else tf.disable_control_flow_v2)()
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(11)
        built = pattern.build(tf)
        saver = tf.train.Saver()
        with tf.Session(graph=graph) as session:
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            prefix = Path(saver.save(session, str(directory / "model.ckpt"), global_step=0))
    _rename(tf, Path(f"{prefix}.meta"), pattern)
    ops: tuple[Any, ...] = built if isinstance(built, tuple) else (built,)
    return Made(prefix, tuple(getattr(op, "op", op).name for op in ops), pattern)


def _rename(tf: Any, path: Path, pattern: Pattern) -> None:
    if not pattern.renamed:
        return
    meta = tf.MetaGraphDef.FromString(path.read_bytes())
    for node in meta.graph_def.node:
        for beginning, op in pattern.renamed:
            if node.name.startswith(beginning):
                node.op = op
    path.write_bytes(meta.SerializeToString())


def settings_of(made: Made, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run of it, without ``workers``."""
    fed = {name: str(value) for name, value in made.pattern.feeds}
    # As a script's one process does it, which feeds the same batch to all operations of a step
    own = {"source": "x", "train_op": list(made.ops), "feed": fed, "cycle_batches": "same"}
    return {**own, **dict(made.pattern.settings), **extra}
