"""What does SOURCE name where a save of changed rows may be meant too, and from what does a run go on?

Rule: such a save by its own name, and for a run's output its newest state, be it full or not; what
is read then is the chain, folded as it's read. For everything else as ``source``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import google_crc32c

from orchestrator.errors import CorruptCheckpoint, SourceError
from orchestrator.store.bundle.folded import Folded
from orchestrator.store.bundle.values import Values
from orchestrator.store.checkpoints.candidates import Refusal
from orchestrator.store.checkpoints.chains import Chain, chain_of, newest_chain
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint, scan_all
from orchestrator.store.checkpoints.source import Source, resolve_source
from orchestrator.store.objects.layout import (
    CHANGED_SUFFIX,
    read_generation_id,
    split_bundle_file,
)
from orchestrator.store.objects.location import Location, open_location


def resolve_values(url: str) -> tuple[Source, Values | Folded]:
    """A checkpoint, and its tensors.

    Args:
        url: as ``resolve_source`` takes it, or the prefix of a save of changed rows.

    Raises:
        As ``resolve_source``.
    """
    location = open_location(url)
    parts = split_bundle_file(location.name)
    prefix = parts[0] if parts else location.name
    if prefix.endswith(CHANGED_SUFFIX):
        return _of_chain(location, _named(location, prefix), ())
    if any(read_generation_id(entry.name) for entry in location.list() if entry.is_directory):
        chain, refused = newest_chain(location)
        if chain is not None and len(chain.links) > 1:
            return _of_chain(location, chain, refused)
    source = resolve_source(url)
    assert source.index is not None, "a checkpoint was asked for"
    return source, Values(source.index, source.files)


def newest_state(
    output: Location, *, exclude: Mapping[str, str] | None = None, deep: bool = False
) -> tuple[Source | None, Checkpoint | None]:
    """The newest good state that a run has saved, full or not, and which of its saves that is; None
    where there is none. What was passed over stands in ``Source.refused``.

    Args:
        exclude: label to reason, for saves that turned out bad later.
        deep: read every byte of each candidate and of all that it stands on.

    Raises OutputError, SourceError, CorruptCheckpoint, StorageUnavailable.
    """
    chain, refused = newest_chain(output, exclude=exclude, deep=deep)
    if chain is None:
        return None, None
    source, _ = _of_chain(output, chain, refused)
    if len(chain.links) == 1:
        (checked,) = chain.checked
        source = replace(source, index=checked.index, index_crc32c=checked.index_crc32c, links=())
    return source, chain.newest


def _named(location: Location, prefix: str) -> Chain:
    directory = location.parent
    by_label = {
        item.label: item for items in scan_all(directory.parent) for item in items if item.committed
    }
    item = by_label.get(f"{directory.name}/{prefix}")
    if item is None:
        raise SourceError(
            f"{location.shown} isn't there as a save of a run's",
            remedy="`tfresume checkpoints RUN` lists a run's saves",
            details={"url": location.shown, "missing": True},
        )
    return chain_of(item, by_label)


def _of_chain(asked: Location, chain: Chain, refused: tuple[Refusal, ...]) -> tuple[Source, Folded]:
    newest, last, folded = chain.newest, chain.checked[-1], chain.folded()
    meta = chain.links[0].candidate.meta
    if meta is None:
        raise CorruptCheckpoint(
            f"checkpoint {chain.links[0].prefix.shown} has no .meta",
            remedy="Give an older checkpoint as the source by its prefix",
        )
    crc = 0
    for one in chain.checked:
        crc = google_crc32c.extend(crc, one.index_crc32c.to_bytes(4, "big"))
    source = Source(
        url=asked.shown,
        meta=meta.location,
        name=chain.links[0].name,
        prefix=newest.prefix,
        step_in_name=newest.step,
        refused=refused,
        format="V2",
        files=tuple(file for one in chain.checked for file in one.files),
        step=last.step,
        index=folded.index,
        manifest=last.manifest,
        meta_data=meta.location.read_bytes(),
        index_crc32c=crc,
        links=tuple(one.files for one in chain.checked),
    )
    return source, folded
