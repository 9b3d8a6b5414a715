"""Who speaks to the output's storage while the run goes on?

Rule: one thread, first in first out, so that a generation's take-over is recorded before anything
of it is committed and the journal keeps its order. What fails here never raises into the loop: it
comes back as an event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.config import RunConfig
from orchestrator.decide import events as ev
from orchestrator.driver import last_writes
from orchestrator.driver.inbox import Message, Remark, Restorable
from orchestrator.driver.past import KINDS
from orchestrator.driver.restorable import newest_restorable
from orchestrator.driver.save_manifests import Saved, SaveManifests
from orchestrator.driver.storage_errors import not_found, reason_of
from orchestrator.errors import LeaseLost, OrchestratorError, StorageUnavailable
from orchestrator.journal.event import JournalEvent
from orchestrator.journal.save_events import SaveCommitted
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.pointing import set_pointer
from orchestrator.store.checkpoints.retention import retain
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.location import Location
from orchestrator.store.objects.manifest import Manifest
from orchestrator.store.run.evaluations import Holds
from orchestrator.store.run.journal import Journal
from orchestrator.store.run.lease import Lease
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.run.snapshots import write_snapshot
from orchestrator.store.transfer.part_files import send_index
from orchestrator.workers.scheduling import THREADS, Scheduler

log = logging.getLogger("tfresume")


class StorageThread:
    """The output's storage, as the loop uses it. All methods return at once.

    Args:
        parent: (attempt, generation) whose checkpoint the first generation starts from, (0, 0) for
            the source, None for the newest.
        parent_label: that checkpoint's label below the output.
        trained_s: seconds that earlier attempts took.
        tell: takes messages for the loop.
        scheduler: its clocks and its thread.
    """

    def __init__(
        self,
        output: Location,
        lease: Lease,
        config: RunConfig,
        saved: Saved,
        parent: tuple[int, int] | None,
        parent_label: str | None,
        trained_s: float,
        tell: Callable[[Message], None],
        scheduler: Scheduler = THREADS,
    ) -> None:
        self._output, self._lease, self._config, self._saved = output, lease, config, saved
        self._parent, self._tell = parent, tell
        self._parent_label = parent_label
        self._doubtful: tuple[ev.SaveWritten, Manifest] | None = None
        self._turned = self._astray = False
        """Whether a checkpoint was found from which the next generation goes on, and whether TensorFlow
        is pointed at what its take-over leaves behind.
        """
        self._unrecorded: list[tuple[int, int, tuple[int, int] | None]] = []
        self._journal = Journal(output, lease.attempt, lambda: write_snapshot(output, KINDS))
        self._holds = Holds(output)
        self._jobs = scheduler.line()
        self._done, self._ended = 0, False
        self._scheduler = scheduler
        self._manifests = SaveManifests(saved, lease.attempt, trained_s, scheduler)
        if parent is None:
            self._jobs.put(self._find_parent)
        elif parent_label is not None:
            self._jobs.put(self._point)
        self._thread = scheduler.start(self._work, "tfresume-storage_thread")

    def note(self, event: JournalEvent) -> None:
        """Append to the journal."""
        self._jobs.put(lambda: self._journal.append(event.record(), durable=event.AT_ONCE))

    def flush(self) -> None:
        """Have everything written that was noted, and know what became of a commit in doubt."""
        self._jobs.put(self._journal.flush)
        self._jobs.put(self._settle)

    def take_over(self, generation: int, step: int) -> None:
        """Record that a generation goes on from ``step``."""
        self._jobs.put(lambda: self._take_over(generation, step))

    def commit(self, written: ev.SaveWritten, world_size: int) -> None:
        """Write manifest and pointer; ``Committed`` or ``SaveFailed`` comes back."""
        self._jobs.put(lambda: self._commit(written, world_size))

    def find(self, reason: str, exclude: Mapping[str, str]) -> None:
        """Look for the newest good checkpoint, those in ``exclude`` (label to reason) left out;
        ``Found`` comes back.
        """
        self._jobs.put(lambda: self._find(reason, exclude))

    def close(self) -> None:
        """Do what is still to be done, flush the journal and give up the lease."""
        # The lease last: the next driver reads the journal as soon as it's free
        self._jobs.put(lambda: last_writes.flush(self._journal, self._scheduler))
        self._jobs.put(self._lease.release)
        self._jobs.put(None)
        last_writes.wait_for(
            self._thread,
            lambda: self._ended,
            lambda: (self._done, self._output.answers),
            self._scheduler,
        )

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
                self._done += 1
            except LeaseLost as error:
                self._tell(ev.Fenced(error.as_dict()))
            except OrchestratorError as error:
                log.warning("storage: %s", error)
            except Exception:
                log.exception(
                    "the thread that writes to the output met an error of its own; it goes on"
                )
        self._ended = True

    def _find_parent(self) -> None:
        """The newest checkpoint as the store has it: a driver that died between a commit and its
        event has left one that no journal knows.
        """
        if found := list_checkpoints(self._output):
            self._parent_label = found[0].label
            self._point()

    def _point(self) -> None:
        """Set TensorFlow's pointer right where the driver before died between a commit and that."""
        if read_pointer(self._output) != self._parent_label:
            set_pointer(self._output, lease=self._lease)

    def _take_over(self, generation: int, step: int) -> None:
        self._doubtful = None  # it may lie beyond this step, and no checkpoint is written over
        self._turned = False
        self._unrecorded.append((generation, step, self._parent))
        self._parent = (self._lease.attempt, generation)
        self._record()

    def _record(self) -> None:
        """Record what couldn't be recorded yet, in its order. Raises LeaseLost, StorageUnavailable
        (tried again before the next commit).
        """
        while self._unrecorded:
            generation, step, parent = self._unrecorded[0]
            record_takeover(self._output, self._lease.attempt, generation, step, parent)
            self._unrecorded.pop(0)
        if self._astray:
            set_pointer(self._output, lease=self._lease)
            self._astray = False

    def _commit(self, written: ev.SaveWritten, world_size: int) -> None:
        self._doubtful = None  # a later save takes the place of an earlier one
        manifest: Manifest | None = None
        began_s = self._scheduler.monotonic()
        try:
            if not written.reports:
                manifest = self._manifests.of(written, world_size, self._parent_label)
            if not self._lease.is_fresh:
                self._lease.heartbeat()  # nobody may have taken over since we were last heard of
            self._record()
            if manifest is None:
                manifest = self._manifests.of(
                    self._with_index(written), world_size, self._parent_label
                )
            commit(self._output, manifest, lease=self._lease)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - a save that fails for whatever reason is counted by the rules
            if isinstance(error, StorageUnavailable) and manifest is not None:
                self._doubtful = written, manifest
            self._tell(ev.SaveFailed(written.generation, written.step, reason_of(error)))
            return
        self._committed(written, manifest, began_s)

    def _with_index(self, written: ev.SaveWritten) -> ev.SaveWritten:
        """The save with the index over all ranks' data files, where they wrote it in parts. Raises
        OutputError, StorageUnavailable.
        """
        if not written.reports:
            return written
        directory = self._output.child(written.directory)
        records = send_index(written.prefix, written.reports, directory)
        return replace(written, files=(*written.files, *records))

    def _settle(self) -> None:
        """Find out whether a commit without an answer has happened, by committing again: where its
        manifest stands, no save of this step can ever be written.
        """
        if self._doubtful is not None and self._lease.is_fresh:
            (written, manifest), self._doubtful = self._doubtful, None
            began_s = self._scheduler.monotonic()
            try:
                self._record()  # where that failed too, it was refused
                commit(self._output, manifest, lease=self._lease)
            except StorageUnavailable:
                self._doubtful = written, manifest
                raise
            self._committed(written, manifest, began_s)

    def _committed(self, written: ev.SaveWritten, manifest: Manifest, began_s: float) -> None:
        # Told before anything is deleted: a failure there isn't one of this save
        label = f"{written.directory}/{written.prefix}"
        self._parent_label = label
        self._astray = self._turned  # of the generation before: its commit comes after the search
        self._manifests.committed(written, manifest)
        self._tell(
            Remark(
                SaveCommitted(
                    step=written.step,
                    generation=written.generation,
                    checkpoint=label,
                    size_bytes=sum(record.size_bytes for record in manifest.files),
                    stall_s=round(written.stall_s, 4),
                    commit_s=round(self._scheduler.monotonic() - began_s, 4),
                )
            )
        )
        told = (written.generation, written.step, written.position)
        self._tell(ev.Committed(*told, changes=bool(manifest.chain)))
        if self._astray:
            return  # the next generation reads an older one, and has no other once it's recorded
        done = retain(
            self._output,
            max_to_keep=self._config.max_to_keep,
            keep_every_hours=self._config.keep_every_hours,
            protect=(label,),
            lease=self._lease,
            needed=self._holds.reasons,
        )
        if done.deleted:
            log.debug("checkpoints that needn't be kept are deleted: %s", ", ".join(done.deleted))

    def _find(self, reason: str, exclude: Mapping[str, str]) -> None:
        self._doubtful = None
        try:
            found = newest_restorable(self._output, self._config, self._saved.loading, exclude)
        except Exception as error:  # noqa: BLE001 - whatever it is, the rules wait for an answer
            self._tell(not_found(error))
            return
        self._turned = True
        source, files = found.source, found.files
        self._parent, self._parent_label = (0, 0), None
        if found.own is not None:
            self._parent = found.own.generation_id.attempt, found.own.generation_id.generation
            self._parent_label = found.own.label
        refused = "; ".join(f"{item.checkpoint}: {item.reason}" for item in source.refused)
        self._tell(Restorable(files))
        self._tell(ev.Found(files.step, files.position, refused or reason, source.label))
