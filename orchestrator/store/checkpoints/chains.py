"""From what does a run go on whose newest save holds changed rows only?

Rule: such a save names all that it stands on, the full checkpoint first, and is good where each of
them is committed, is that very save, and is good. It bridges two full checkpoints: TensorFlow's
pointer never names it, it stands on ``MAX_LINKS`` others at most, and it goes once a newer full one
is good. Whatever a save that counts stands on stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import CorruptCheckpoint, OrchestratorError, SourceError
from orchestrator.store.checkpoints.candidates import Refusal
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, age, scan_all
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import ChainLink

if TYPE_CHECKING:
    from orchestrator.store.bundle.folded import Folded
    from orchestrator.store.checkpoints.verification import Checked

MAX_LINKS = 8
"""Saves that one of changed rows stands on at most; the next one is full, which folds the chain:
the ranks hold all rows, so it's read from nowhere. A resume reads each link, and loses all that
stands on one that is damaged; with 5 % of the rows changed eight links are two fifths of a full
save.
"""


@dataclass(frozen=True)
class Chain:
    """A full checkpoint and the saves of changed rows over it, in their order; each was checked."""

    links: tuple[Checkpoint, ...]
    checked: tuple[Checked, ...] = field(repr=False)

    @property
    def newest(self) -> Checkpoint:
        """The save whose state it is."""
        return self.links[-1]

    def folded(self) -> Folded:
        """Its tensors. Raises CorruptCheckpoint: the links don't fit each other."""
        from orchestrator.store.bundle.folded import ChainSave, Folded

        return Folded(
            [
                ChainSave(one.index, one.files, link.label)
                for link, one in zip(self.links, self.checked, strict=True)
            ]
        )


def newest_chain(
    output: Location, *, exclude: Mapping[str, str] | None = None, deep: bool = False
) -> tuple[Chain | None, tuple[Refusal, ...]]:
    """The newest state that a run has saved, full or not, and why newer ones were passed over.

    Args:
        exclude: label to reason, for saves that turned out bad later.
        deep: read every byte of each candidate and of all that it stands on.

    Raises:
        OutputError, StorageUnavailable: the store doesn't answer; never taken for a bad checkpoint.
    """
    from orchestrator.store.checkpoints.verification import speaks_of_content

    full, changes = scan_all(output)
    by_label = {item.label: item for item in (*full, *changes)}
    refused: list[Refusal] = []
    for item in sorted((*full, *changes), key=age, reverse=True):
        reason = (exclude or {}).get(item.label, "") or item.fenced
        if not reason and not item.committed:
            reason = "it was never committed: the save didn't finish"
        if not reason:
            try:
                return chain_of(item, by_label, exclude=exclude, deep=deep), tuple(refused)
            except OrchestratorError as error:
                if not speaks_of_content(error):
                    raise
                reason = error.message
        refused.append(Refusal(item.label, item.step, reason))
    return None, tuple(refused)


def chain_of(
    item: Checkpoint,
    by_label: Mapping[str, Checkpoint],
    *,
    exclude: Mapping[str, str] | None = None,
    deep: bool = False,
) -> Chain:
    """All that a save stands on, and itself.

    Args:
        by_label: every save of the run.

    Raises:
        CorruptCheckpoint: one of them is missing, another save, or bad. StorageUnavailable.
    """
    manifest = item.manifest()
    links = [_linked(item, link, by_label, exclude or {}) for link in manifest.chain]
    for link, promised in zip(links, manifest.chain, strict=True):
        if link.manifest().save_id != promised.save_id:
            raise _broken(item, f"{link.label} is another save than the one that it stands on")
    if links and (links[0].is_changes or not all(link.is_changes for link in links[1:])):
        raise _broken(item, "it doesn't stand on one full checkpoint")
    chain = Chain(
        (*links, item),
        tuple(link.check(deep=deep) for link in (*links, item)),
    )
    folded = chain.folded()
    if deep:
        folded.check_rows()
    return chain


def _linked(
    item: Checkpoint,
    link: ChainLink,
    by_label: Mapping[str, Checkpoint],
    exclude: Mapping[str, str],
) -> Checkpoint:
    found = by_label.get(link.label)
    if found is None or not found.committed or found.fenced:
        raise _broken(item, f"it stands on {link.label}, which {why_no_link(found)}")
    if link.label in exclude:
        raise _broken(item, f"it stands on {link.label}: {exclude[link.label]}")
    return found


def why_no_link(item: Checkpoint | None) -> str:
    """Why nothing may stand on a save that isn't there, was never committed or doesn't count."""
    if item is None or not item.committed:
        return "isn't there"
    return f"doesn't count: {item.fenced}"


def _broken(item: Checkpoint, what: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"{item.prefix.shown}: {what}",
        remedy="Use an older checkpoint; `tfresume checkpoints RUN` lists them",
        details={"checkpoint": item.prefix.shown},
    )


def no_source(location: Location) -> SourceError:
    """The error of a save of changed rows that was named where a checkpoint is due."""
    return SourceError(
        f"{location.shown} holds the rows that changed since another save, and is no checkpoint by itself",
        remedy=f"Fold it first: `tfresume export {location.shown} --to checkpoint --all --output DIRECTORY`, "
        "and put the graph's .meta file beside what it writes",
    )


def needed_links(changes: Iterable[Checkpoint]) -> frozenset[str]:
    """Labels of all that the saves of changed rows which count stand on. Raises
    StorageUnavailable.
    """
    needed: set[str] = set()
    for item in changes:
        if item.committed and not item.fenced:
            try:
                needed |= {link.label for link in item.manifest().chain}
            except CorruptCheckpoint:
                continue  # it can't be used, and says of nothing that it's needed
    return frozenset(needed)


def outlived(
    changes: Sequence[Checkpoint], newest_full: Checkpoint | None
) -> tuple[list[Checkpoint], list[Checkpoint]]:
    """The committed saves of changed rows that bridge to no later state, and the others; both
    newest first.

    Args:
        newest_full: the newest full checkpoint that is good; None where nobody knows of one.
    """
    mine = [item for item in changes if item.committed and not item.fenced]
    if newest_full is None:
        return [], mine
    live = [item for item in mine if age(item) > age(newest_full)]
    needed = needed_links(live)
    gone = [item for item in mine if item not in live and item.label not in needed]
    return gone, [item for item in mine if item not in gone]


def fold(chain: Chain, prefix: Path) -> None:
    """Writes a chain as one plain checkpoint, ``prefix.index`` and its data file.

    Args:
        prefix: in a local directory that is there.

    Raises:
        CorruptCheckpoint: a link isn't what was saved. SourceError, StorageUnavailable.
    """
    folded = chain.folded()
    folded.write(prefix, folded.index.entries)
