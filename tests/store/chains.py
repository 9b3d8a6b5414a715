"""What do the tests of chains share? A run of two ranks whose table changes a little at each step."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.store.bundle.changed_rows import changed_tensors
from orchestrator.store.bundle.data_writer import DataReport, DataWriter
from orchestrator.store.checkpoints.chains import Chain
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint
from orchestrator.store.objects.content import Content, MemoryContent
from orchestrator.store.objects.layout import checkpoint_dir
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.manifest import ChainLink, FileRecord, Manifest
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.transfer.part_files import send_index, send_part
from tests.fakes.bundles import meta_bytes
from tests.store.slices import shares, write_rank

RANKS = 2


def add_changed_rows(
    writer: DataWriter,
    key: str,
    dtype: str,
    shape: tuple[int, ...],
    rows: np.ndarray,
    values: bytes,
) -> None:
    """Changed rows into a rank's data file; none at all need no place."""
    if len(rows):
        for one in changed_tensors(writer.shard, key, dtype, shape, rows, [memoryview(values)]):
            content = [bytes(piece[:]) for piece in one.pieces]
            writer.add(one.key, one.dtype, one.shape, content)


class Run:
    """The state of a run and how it's saved.

    Args:
        rows, columns: of its table.
    """

    def __init__(self, rows: int = 400, columns: int = 8) -> None:
        self.step, self._random = 0, np.random.default_rng(rows)
        shape = (rows, columns)
        self.tables = {
            key: self._random.normal(size=shape).astype(np.float32) for key in ("emb", "emb/Adam")
        }
        self.touched = np.zeros(rows, bool)
        self.saves: list[ChainLink] = []
        self.at: dict[int, dict[str, bytes]] = {}

    @property
    def whole(self) -> dict[str, Any]:
        """What isn't a table."""
        return {
            "global_step": np.int64(self.step),
            "w": np.array([self.step, 1], np.float32),
            "words": [b"%d" % self.step],
        }

    def train(self, share: float = 0.05) -> None:
        """A step that changes some rows."""
        count = int(len(self.touched) * share)
        rows = self._random.choice(len(self.touched), count, replace=False)
        for table in self.tables.values():
            table[rows] += 1
        self.touched[rows] = True
        self.step += 1
        self.at[self.step] = {key: table.tobytes() for key, table in self.tables.items()}

    def save(self, output: Location, attempt: int = 1) -> Manifest:
        """Upload all of it; the manifest, not yet committed."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"m-{self.step}"
            reports = [
                write_rank(path, rank, RANKS, self.tables, self.whole) for rank in range(RANKS)
            ]
            records = self._sent(Path(scratch), path.name, reports, output, attempt, meta=True)
        return self._manifest(records, attempt, ())

    def save_changes(
        self, output: Location, chain: tuple[ChainLink, ...], attempt: int = 1
    ) -> Manifest:
        """Upload the rows that changed since the save before; as ``save``."""
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"m-{self.step}.changed"
            reports = [self._changes_of(path, rank) for rank in range(RANKS)]
            records = self._sent(Path(scratch), path.name, reports, output, attempt, meta=False)
        return self._manifest(records, attempt, chain)

    def _changes_of(self, path: Path, rank: int) -> DataReport:
        start, stop = shares(len(self.touched), RANKS)[rank]
        rows = start + np.flatnonzero(self.touched[start:stop])
        with DataWriter(path, rank, RANKS) as writer:
            for key, table in self.tables.items():
                add_changed_rows(writer, key, "float32", table.shape, rows, table[rows].tobytes())
            if rank == 0:
                for key, value in self.whole.items():
                    if isinstance(value, list):
                        writer.add_strings(key, (len(value),), value)
                    else:
                        writer.add(key, value.dtype.name, value.shape, [value.tobytes()])
            return writer.close()

    def _sent(
        self,
        scratch: Path,
        prefix: str,
        reports: list[DataReport],
        output: Location,
        attempt: int,
        *,
        meta: bool,
    ) -> tuple[FileRecord, ...]:
        directory = output.child(checkpoint_dir(attempt, 1))
        files: list[Path | Content] = [*sorted(scratch.glob(f"{prefix}.data-*"))]
        if meta:
            graph = meta_bytes({**self.tables, **self.whole})
            files.append(MemoryContent(f"{prefix}.meta", [graph]))
        return (*send_part(files, directory), *send_index(prefix, reports, directory))

    def _manifest(
        self, records: tuple[FileRecord, ...], attempt: int, chain: tuple[ChainLink, ...]
    ) -> Manifest:
        return Manifest(
            format=2 if chain else 1,
            name="m",
            step=self.step,
            attempt=attempt,
            generation=1,
            files=records,
            step_key="global_step",
            chain=chain,
            training_s=float(self.step),
        )

    def commit(self, output: Location, manifest: Manifest) -> Checkpoint:
        """Commit a save, which the next one's changes are counted from."""
        item = commit(output, manifest)
        self.touched[:] = False
        self.saves = [*manifest.chain, ChainLink(label=manifest.label, save_id=manifest.save_id)]
        return item

    def saved(self, output: Location, attempt: int = 1) -> Checkpoint:
        """A full save."""
        return self.commit(output, self.save(output, attempt))

    def saved_changes(self, output: Location, attempt: int = 1) -> Checkpoint:
        """A save of the changed rows over the save before."""
        return self.commit(output, self.save_changes(output, tuple(self.saves), attempt))


def assert_state(chain: Chain | None, run: Run, step: int) -> None:
    """A chain folds to just what the run held at that step."""
    assert chain is not None
    assert chain.newest.step == step
    folded = chain.folded()
    for key, content in run.at[step].items():
        assert b"".join(bytes(piece) for piece in folded.chunks(key)) == content, key
    assert folded.strings("words") == [b"%d" % step]
    step_bytes = b"".join(bytes(piece) for piece in folded.chunks("global_step"))
    assert step_bytes == np.int64(step).tobytes()


def links_of(chain: Chain) -> tuple[ChainLink, ...]:
    """What a save over a chain stands on."""
    return tuple(
        ChainLink(label=link.label, save_id=link.manifest().save_id) for link in chain.links
    )


def full_and_two_changes(directory: Path, run: Run) -> Location:
    """The output in a directory of a run that has made a full save and two of changed rows over it."""
    output = open_location(str(directory / "out"))
    record_takeover(output, 1, 1, 0)
    run.train()
    run.saved(output)
    for _ in range(2):
        run.train()
        run.saved_changes(output)
    return output
