"""What does the manifest of a save say?

Rule: what was written, where it comes from, and what it stands on: a save of changed rows on one
that this driver has committed before.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.decide import events as ev
from orchestrator.errors import OutputError
from orchestrator.graph.loading import AS_SAVED, Loading
from orchestrator.store.objects.layout import CHANGED_SUFFIX, split_step
from orchestrator.store.objects.manifest import FORMAT, ChainLink, Manifest
from orchestrator.workers.scheduling import Scheduler


@dataclass(frozen=True)
class Saved:
    """What all manifests of an attempt have in common, and how their source is read.

    Attributes:
        loading: as ``edited_graph.source_loading`` gives it.
    """

    fingerprint: str
    step_key: str | None
    repairs: tuple[str, ...]
    edits: tuple[str, ...] = ()
    loading: Loading | None = AS_SAVED


class SaveManifests:
    """The manifests of one driver's saves.

    Args:
        trained_s: seconds that earlier attempts took.
        scheduler: its clocks.
    """

    def __init__(self, saved: Saved, attempt: int, trained_s: float, scheduler: Scheduler) -> None:
        self._saved, self._attempt, self._scheduler = saved, attempt, scheduler
        self._began_s = scheduler.monotonic() - trained_s
        self._chains: dict[int, tuple[ChainLink, ...]] = {}
        """What the newest saves in parts that were committed are made of, by number."""

    def of(self, written: ev.SaveWritten, world_size: int, parent: str | None) -> Manifest:
        """Of a save whose files are there.

        Args:
            parent: the checkpoint's label from which its generation went on.

        Raises OutputError where what it stands on was never committed.
        """
        chain = self._ground_of(written)
        return Manifest(
            format=FORMAT if chain else 1,
            chain=chain,
            name=split_step(written.prefix.removesuffix(CHANGED_SUFFIX))[0],
            step=written.step,
            attempt=self._attempt,
            generation=written.generation,
            files=tuple(written.files),
            parent=parent,
            position=written.position,
            world_size=world_size,
            step_key=self._saved.step_key,
            training_s=max(0.0, self._scheduler.monotonic() - self._began_s),
            created=self._scheduler.unix(),
            repairs=self._saved.repairs,
            edits=self._saved.edits,
            source=self._saved.fingerprint,
        )

    def committed(self, written: ev.SaveWritten, manifest: Manifest) -> None:
        """Others may stand on this one."""
        if written.part is not None:
            link = ChainLink(label=manifest.label, save_id=manifest.save_id)
            # The next one stands on this, or on what this stands on
            earlier = dict(list(self._chains.items())[-1:])
            self._chains = {**earlier, written.part.save: (*manifest.chain, link)}

    def _ground_of(self, written: ev.SaveWritten) -> tuple[ChainLink, ...]:
        over = 0 if written.part is None else written.part.over
        if over and over not in self._chains:
            raise OutputError(
                f"{written.prefix} holds what has changed since save {over}, which was never committed",
                remedy="The next save has to be a full one",
            )
        return self._chains[over] if over else ()
