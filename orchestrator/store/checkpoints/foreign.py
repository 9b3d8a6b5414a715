"""Which checkpoint of a directory that tfresume didn't write is the newest good one?

Rule: without a manifest a checkpoint is judged by its own index, its data, its graph and its
neighbours. A step in the data that differs from the name is normal where a directory counts in
epochs, and a sign of mixed-up files where the neighbours agree with their names; so the neighbours
are asked before anything is believed or refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.errors import CorruptCheckpoint, OrchestratorError, SourceError
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.store.checkpoints.candidates import Candidate, Refusal
from orchestrator.store.checkpoints.choice import choose, order, series_of
from orchestrator.store.checkpoints.meta_fit import misfit
from orchestrator.store.checkpoints.verification import Checked, check, speaks_of_content
from orchestrator.store.objects.layout import MANIFEST_SUFFIX, read_generation_id
from orchestrator.store.objects.location import FileInfo, Location
from orchestrator.store.objects.manifest import read_manifest_bytes

MAX_REFUSALS = 50
"""Bad checkpoints after which a walk back ends: so many in a row mean that something else is wrong,
and each costs requests.
"""
NEIGHBOURS = 3
"""Names beside a wrong one that a message proposes."""
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
"""The key under which TensorFlow 2 keeps which object each tensor belongs to."""


@dataclass(frozen=True)
class ForeignSource:
    """A graph and, usually, a checkpoint that passed."""

    meta: Location
    meta_data: bytes = field(repr=False)
    checked: Checked | None
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()


def only_this(
    candidate: Candidate,
    candidates: Mapping[str, Candidate],
    asked: Location,
    *,
    need_checkpoint: bool,
    deep: bool,
) -> ForeignSource:
    """The checkpoint that was named, or the newest good one for a ``.meta`` without its own.

    Raises:
        CorruptCheckpoint, SourceError: it's bad; another isn't taken in its stead.
    """
    if candidate.is_checkpoint:
        return _examine(candidate, candidates, deep=deep)
    meta = candidate.meta
    followers = order(
        item for item in candidates.values() if item.is_checkpoint and item.name == candidate.name
    )
    if followers and meta is not None:
        note = f"{meta.name} has no checkpoint of its own; the newest good one of {candidate.name} is taken"
        return _walk(
            candidate.directory, followers, candidates, {}, deep=deep, meta=meta, notes=(note,)
        )
    if meta is None:
        raise SourceError(
            f"{asked.shown} has neither a .meta nor variables", remedy="Name another checkpoint"
        )
    if need_checkpoint:
        raise SourceError(
            f"{meta.location.shown} has no checkpoint beside it: a graph without variables has nothing to resume",
            remedy=f"Copy {candidate.prefix}.index and {candidate.prefix}.data-* into the same directory",
        )
    return ForeignSource(meta.location, meta.location.read_bytes(), None)


def newest_foreign(
    location: Location,
    candidates: Mapping[str, Candidate],
    pointed: str | None,
    *,
    exclude: Mapping[str, str],
    need_checkpoint: bool,
    deep: bool,
) -> ForeignSource:
    """A directory's newest good checkpoint.

    Args:
        pointed: the prefix that its ``checkpoint`` file names.

    Raises:
        SourceError: nothing there, or several models and no telling which. CorruptCheckpoint: none
            is good.
    """
    choice = choose(list(candidates.values()), pointed)
    if choice.ambiguous:
        shown = ", ".join(choice.ambiguous[:10]) + (
            f" and {len(choice.ambiguous) - 10} more" if len(choice.ambiguous) > 10 else ""
        )
        why = f" ({choice.notes[0]})" if choice.notes else ""
        raise SourceError(
            f"{location.shown} holds several models and no telling which is meant{why}: {shown}",
            remedy="Give the prefix of one of them",
            details={"prefixes": list(choice.ambiguous)},
        )
    if choice.ordered:
        return _walk(location, choice.ordered, candidates, exclude, deep=deep, notes=choice.notes)
    metas = [item.meta for item in candidates.values() if item.meta is not None]
    if len(metas) == 1 and not need_checkpoint:
        return ForeignSource(metas[0].location, metas[0].location.read_bytes(), None)
    if metas:
        names = ", ".join(sorted(meta.name for meta in metas)[:5])
        raise SourceError(
            f"{location.shown} has graphs ({names}) but no checkpoint: there are no variables to resume",
            remedy="Copy the .index and .data files of a checkpoint into it",
        )
    raise SourceError(
        f"{location.shown} holds no checkpoint",
        remedy="Name the directory that TensorFlow saved into",
    )


def _walk(
    location: Location,
    ordered: Sequence[Candidate],
    candidates: Mapping[str, Candidate],
    exclude: Mapping[str, str],
    *,
    deep: bool,
    meta: FileInfo | None = None,
    notes: tuple[str, ...] = (),
) -> ForeignSource:
    refused: list[Refusal] = []
    for candidate in ordered:
        try:
            if candidate.prefix in exclude:
                raise CorruptCheckpoint(
                    exclude[candidate.prefix], remedy="Name another checkpoint, or copy it again"
                )
            found = _examine(candidate, candidates, deep=deep, meta=meta, choosing=len(ordered) > 1)
        except OrchestratorError as error:
            if not speaks_of_content(error):
                raise
            if len(ordered) == 1:
                raise
            refused.append(Refusal(candidate.prefix, candidate.step_in_name, error.message))
            if len(refused) >= MAX_REFUSALS:
                break
        else:
            return ForeignSource(
                found.meta, found.meta_data, found.checked, tuple(refused), (*notes, *found.notes)
            )
    raise none_good(location, tuple(refused), "holds no checkpoint")


def _examine(
    candidate: Candidate,
    candidates: Mapping[str, Candidate],
    *,
    deep: bool,
    meta: FileInfo | None = None,
    choosing: bool = False,
) -> ForeignSource:
    manifest_file = candidate.files.get(MANIFEST_SUFFIX)
    if manifest_file is None and read_generation_id(candidate.directory.name) is not None:
        raise CorruptCheckpoint(
            f"checkpoint {candidate.location.shown} was never committed: the save didn't finish",
            remedy="Use a committed one",
        )
    manifest = (
        read_manifest_bytes(manifest_file.location.read_bytes(), manifest_file.location.shown)
        if manifest_file
        else None
    )
    checked = check(candidate, manifest, deep=deep)
    meta_file = meta or candidate.meta
    notes: tuple[str, ...] = ()
    if meta_file is None:
        meta_file = _borrowed_meta(candidate, candidates, checked)
        notes = (
            f"{candidate.prefix} has no .meta of its own; {meta_file.name} fits it and is used",
        )
    data = meta_file.location.read_bytes()
    whole = choosing and meta is None
    problem = misfit(
        read_meta(data, name=meta_file.location.shown), checked.index.keys_for_graph(), whole=whole
    )
    if problem:
        raise CorruptCheckpoint(
            f"checkpoint {candidate.location.shown} {problem}",
            remedy="Give the .meta that was saved with it",
            details={"checkpoint": candidate.location.shown, "file": meta_file.name},
        )
    if manifest is None:
        notes += _step_notes(candidate, candidates, checked)
    return ForeignSource(meta_file.location, data, checked, notes=notes)


def _borrowed_meta(
    candidate: Candidate, candidates: Mapping[str, Candidate], checked: Checked
) -> FileInfo:
    """The graph of a neighbour: TensorFlow writes .meta last, and not at all with
    ``write_meta_graph=False``.
    """
    same = [
        item
        for item in candidates.values()
        if item.meta is not None and item.name == candidate.name
    ]
    others = [item for item in candidates.values() if item.meta is not None]
    if not others and OBJECT_GRAPH in checked.index.entries:
        raise SourceError(
            f"checkpoint {candidate.location.shown} is one of TensorFlow 2's objects (tf.train.Checkpoint, Keras): it has no graph",
            remedy="Build its model in a TensorFlow 1 graph, restore it there, and save with tf.compat.v1.train.Saver, which writes a .meta",
            details={"file": f"{candidate.prefix}.meta"},
        )
    if not same and len(others) != 1:
        raise SourceError(
            f"{candidate.prefix}.meta is missing, the graph of checkpoint {candidate.location.shown}",
            remedy="Copy the .meta from where it was trained; TensorFlow writes it last, so a crash may have lost it",
            details={"file": f"{candidate.prefix}.meta"},
        )
    step = candidate.step_in_name or 0
    nearest = min(
        same or others, key=lambda item: (abs((item.step_in_name or 0) - step), item.prefix)
    )
    assert nearest.meta is not None, "only candidates with a .meta were kept"
    return nearest.meta


def _step_notes(
    candidate: Candidate, candidates: Mapping[str, Candidate], checked: Checked
) -> tuple[str, ...]:
    named = candidate.step_in_name
    if named is None or checked.step is None or checked.step == named:
        return ()
    siblings = [
        item for item in candidates.values() if item.is_checkpoint and item is not candidate
    ]
    for sibling in order(item for item in siblings if series_of(item) == series_of(candidate))[
        :NEIGHBOURS
    ]:
        if _agrees_with_its_name(sibling):
            raise CorruptCheckpoint(
                f"checkpoint {candidate.location.shown}: its data is of step {checked.step}, its name says {named}, "
                f"while {sibling.prefix} agrees with its name: files of another save were put under this name",
                remedy="Rename it to what it is, or copy it again",
                details={
                    "checkpoint": candidate.location.shown,
                    "step": checked.step,
                    "file": candidate.prefix,
                },
            )
    return (f"the name says step {named}, the data says {checked.step}; the data counts",)


def _agrees_with_its_name(candidate: Candidate) -> bool:
    try:
        checked = check(candidate)
    except (CorruptCheckpoint, SourceError):
        return False
    return checked.step is not None and checked.step == candidate.step_in_name


def none_good(
    location: Location, refused: tuple[Refusal, ...], nothing: str
) -> SourceError | CorruptCheckpoint:
    """The error for a directory without a good checkpoint."""
    if not refused:
        return SourceError(
            f"{location.shown} {nothing}", remedy="Name another directory, or a checkpoint's prefix"
        )
    listed = "; ".join(f"{item.checkpoint}: {item.reason}" for item in refused[:5])
    more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
    return CorruptCheckpoint(
        f"none of the {len(refused)} newest checkpoints in {location.shown} is good: {listed}{more}",
        remedy="Copy one of them again from where it was trained",
        details={
            "refused": [
                {"checkpoint": item.checkpoint, "step": item.step, "reason": item.reason}
                for item in refused
            ]
        },
    )
