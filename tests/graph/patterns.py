"""How is a graph of the table made: saved, fed, and what is expected of it in a group?

Rule: a pattern says of itself what a group makes of it, and ``test_patterns_tf`` holds it to that:
``same``, what one process with the joint batch trains; ``differs``, with a warning, in the variables
named; ``refused``, with the reason named, and one worker trains it still.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

WIDTH, ROWS = 4, 4
"""Rows of each rank; an even number, since towers split them."""
Outcome = Literal["same", "differs", "refused"]
Maker = Callable[[Any], Any]


@dataclass(frozen=True)
class Pattern:
    """A way of writing a training graph.

    Attributes:
        build: builds it into the default graph and returns the operation that trains; inputs are
            ``x:0`` float32 ``[rows, 4]`` and ``y:0`` float32 ``[rows]``.
        outcome: what a group makes of it.
        saying: words of the refusal or of the warning.
        apart: variables that differ from one process's, as patterns of their names.
        feeds: scalars that are fed for the whole run.
        alike: the ranks' batches hold the same rows in different orders, so that statistics which
            aren't linear agree too.
        functions: made with resource variables and functional control flow.
        renamed: operation type of nodes by the beginning of their names: what this TensorFlow can't
            make.
        by_rank: scalars that are fed with each batch: to either rank, and to one process.
        remedy: what to do, where it isn't what the outcome says.
    """

    build: Maker
    outcome: Outcome
    saying: str = ""
    apart: tuple[str, ...] = ()
    feeds: tuple[tuple[str, Any], ...] = ()
    alike: bool = False
    functions: bool = False
    renamed: tuple[tuple[str, str], ...] = ()
    remedy: str = ""
    by_rank: tuple[tuple[str, tuple[int, int, int]], ...] = ()

    @property
    def seen(self) -> str:
        """The pattern in words."""
        return " ".join((self.build.__doc__ or "").split())


@dataclass(frozen=True)
class Made:
    """A saved graph: its prefix, the operation that trains, the pattern."""

    prefix: Path
    op: str
    pattern: Pattern

    def joint(self, step: int) -> dict[str, Any]:
        """What one process is fed."""
        parts = self.parts(step)
        names = ("x:0", "y:0")
        return {
            **{name: np.concatenate([part[name] for part in parts]) for name in names},
            **self._scalars(2),
        }

    def parts(self, step: int) -> list[dict[str, Any]]:
        """What each of two ranks is fed."""
        rng = np.random.default_rng(100 + step)
        x = rng.normal(size=(2 * ROWS, WIDTH)).astype(np.float32)
        y = (x.sum(1) + rng.normal(size=2 * ROWS)).astype(np.float32)
        if self.pattern.alike:
            x[ROWS:], y[ROWS:] = x[:ROWS][::-1], y[:ROWS][::-1]
        return [
            {
                "x:0": x[rank * ROWS : (rank + 1) * ROWS],
                "y:0": y[rank * ROWS : (rank + 1) * ROWS],
                **self._scalars(rank),
            }
            for rank in (0, 1)
        ]

    def _scalars(self, at: int) -> dict[str, Any]:
        return dict(self.pattern.feeds) | {name: of[at] for name, of in self.pattern.by_rank}


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
    return Made(prefix, getattr(built, "op", built).name, pattern)  # type: ignore[union-attr]


def _rename(tf: Any, path: Path, pattern: Pattern) -> None:
    if not pattern.renamed:
        return
    meta = tf.MetaGraphDef.FromString(path.read_bytes())
    for node in meta.graph_def.node:
        for beginning, op in pattern.renamed:
            if node.name.startswith(beginning):
                node.op = op
    path.write_bytes(meta.SerializeToString())
