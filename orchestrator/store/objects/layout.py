"""What is called how in an output directory?

Rule: every name below the output is made and read here, and nowhere else. Names of ours are
recognised exactly; anything else in the directory is somebody else's and is never touched.

::

    OUTPUT/
      checkpoint                              TensorFlow's pointer
      a0001-g0001/NAME-11000.index, .data-0000M-of-0000N, .meta
      a0001-g0001/NAME-11000.manifest.json    the commit marker
      a0001-g0001/NAME.at96000-11000.*        a later one of the same step, at that position
      a0001-g0001/NAME-11500.changed.*        what has changed since: no checkpoint by itself
      _tfresume/run.json                      the run record
      _tfresume/lease/0001.json               attempt 1's lease; 0001.heartbeat, 0001.released
      beside it _tfresume/lineage/a0001-g0001.json      generation 1 of attempt 1 took over at step
      s _tfresume/journal/a0001-000001.jsonl    part 1 of attempt 1's journal
      _tfresume/journal/a0001-000064.snapshot.json  what it says up to part 64 of attempt 1
      _tfresume/stop/TOKEN.json               a request to stop
      _tfresume/deleting/a0001-g0001.NAME-11000.json    a checkpoint on its way out
      _tfresume/evaluations/NAME/             what the evaluator NAME found, holds and keeps
"""

from __future__ import annotations

import re
from typing import NamedTuple

from orchestrator.vocabulary import Attempt, Generation, Step

CONTROL = "_tfresume"
POINTER = "checkpoint"
MANIFEST_SUFFIX = ".manifest.json"
CHANGED_SUFFIX = ".changed"
"""Ends the prefix of a save that holds changed rows only. Behind the step, so that whoever looks for
checkpoints by their steps (TensorFlow, earlier versions of this) takes it for none.
"""

_DIRECTORY = re.compile(r"a(\d{4,})-g(\d{4,})")
_STEPPED = re.compile(r"(?P<name>.+)-(?P<step>\d+)", re.DOTALL)
_AGAIN = re.compile(r".+\.at(?P<position>\d+)", re.DOTALL)
_BUNDLE_FILE = re.compile(
    r"(?P<prefix>.+)(?P<suffix>\.index|\.meta|\.manifest\.json|\.data-\d{5}-of-\d{5})", re.DOTALL
)
_DATA_FILE = re.compile(r"\.data-(\d{5})-of-\d{5}\Z")


class GenerationId(NamedTuple):
    """The attempt and generation that a directory of checkpoints belongs to; ordered as they came."""

    attempt: Attempt
    generation: Generation

    @property
    def directory(self) -> str:
        """The directory's name."""
        return checkpoint_dir(self.attempt, self.generation)


def checkpoint_dir(attempt: int, generation: int) -> str:
    """``a0001-g0001``: the directory that attempt and generation write to, and nobody else."""
    return f"a{attempt:04d}-g{generation:04d}"


def checkpoint_name(name: str, step: int, position: int | None = None) -> str:
    """``NAME-11000``: the prefix of one checkpoint's files; ``NAME.at96000-11000`` of a further one
    of the same step, whose counter stood still until that position.
    """
    return f"{name}-{step}" if position is None else f"{name}.at{position}-{step}"


def position_in(prefix: str) -> int:
    """The position in a checkpoint's name, 0 where there is none: the first of its step has none."""
    found = _AGAIN.fullmatch(split_step(prefix.removesuffix(CHANGED_SUFFIX))[0])
    return int(found["position"]) if found else 0


def read_generation_id(directory: str) -> GenerationId | None:
    """The attempt and generation in a directory's name, None for anyone else's directory."""
    found = _DIRECTORY.fullmatch(directory)
    return GenerationId(Attempt(int(found[1])), Generation(int(found[2]))) if found else None


def split_step(prefix: str) -> tuple[str, Step | None]:
    """``model.ckpt-500`` into ``model.ckpt`` and 500; the step is None where the name has none."""
    found = _STEPPED.fullmatch(prefix)
    return (found["name"], Step(int(found["step"]))) if found else (prefix, None)


def split_bundle_file(file_name: str) -> tuple[str, str] | None:
    """``model.ckpt-500.index`` into the prefix and the suffix ``.index``; None for anything that
    isn't a checkpoint's file.
    """
    found = _BUNDLE_FILE.fullmatch(file_name)
    return (found["prefix"], found["suffix"]) if found else None


def shard_of(file_name: str) -> int | None:
    """The number of a V2 data file, 3 for ``m.data-00003-of-00008``; None for any other file."""
    found = _DATA_FILE.search(file_name)
    return int(found[1]) if found else None
