"""Is what a simulated store holds, and what is deleted there, what the run really was?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.objects.layout import MANIFEST_SUFFIX
from orchestrator.store.objects.manifest import Manifest, read_manifest_bytes
from tests.driver_simulation.state import holds

if TYPE_CHECKING:
    from tests.driver_simulation.world import World

DELETING_S = 10.0
"""From a driver's look at what is good to the last that it deletes."""
ROUNDED_S = 0.1
"""The journal's times have milliseconds, and an attempt's clock starts a moment before its loop's."""


class OutputTruth:
    """What has been committed and deleted in one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.damaged: dict[str, float] = {}
        """When a bit of each file flipped."""
        self.manifests: dict[str, Manifest] = {}

    def stored(self, what: str, path: str, data: bytes) -> None:
        self.damaged.pop(path, None)  # a save that is tried again writes over it
        if not path.endswith(MANIFEST_SUFFIX) or "/_tfresume/" in path:
            return
        label = path.removeprefix(f"{self.world.path}/").removesuffix(MANIFEST_SUFFIX)
        if what == "write":
            self._committed(label, read_manifest_bytes(data, path))
        else:
            self._deleted(label)

    def _files_of(self, label: str) -> dict[str, bytes | None]:
        """The index and the data files of a save; None where one isn't there."""
        directory, found = label.rpartition("/")[0], self.world.bucket.objects
        names = [one.name for one in self.manifests[label].files if not one.name.endswith(".meta")]
        paths = [f"{self.world.path}/{directory}/{name}" for name in names]
        return {path: found[path][0] if path in found else None for path in paths}

    def _made_of(self, label: str) -> list[str]:
        """What a save stands on, and itself."""
        return [*(link.label for link in self.manifests[label].chain), label]

    def _holds_its_step(self, label: str) -> bool:
        saves: list[dict[str, bytes]] = []
        for one in self._made_of(label):
            files = self._files_of(one)
            there = {name: data for name, data in files.items() if data is not None}
            if len(there) < len(files) or not (one == label or self.exists(one)):
                return False
            saves.append(there)
        return holds(saves, self.manifests[label].step, divided=self.world.divided)

    def _is_good(self, label: str) -> bool:
        known = label in self.manifests
        return known and not self._is_damaged(label) and self._holds_its_step(label)

    def _committed(self, label: str, manifest: Manifest) -> None:
        self.manifests[label] = manifest
        if manifest.chain:
            self.world.fired.add("chained")
        self.world.check(
            self._is_damaged(label) or self._holds_its_step(label),
            "a checkpoint was committed that isn't the run's state",
        )
        self.world.check(
            manifest.training_s
            >= self.world.truth.told.trained_s.get(manifest.attempt, 0.0) - ROUNDED_S,
            "the training of earlier attempts was forgotten",
        )

    def _is_damaged(self, label: str) -> bool:
        return bool(self._damaged_in(label))

    def _damaged_in(self, label: str) -> set[str]:
        files = (self._files_of(one).keys() for one in self._made_of(label))
        return {name for each in files for name in each} & self.damaged.keys()

    def _was_good(self, label: str) -> bool:
        """Whether it was when a driver looked last: what is damaged while it deletes nobody sees."""
        damaged = self._damaged_in(label)
        since_s = self.world.schedule.now_s - DELETING_S
        return self._is_good(label) or (
            bool(damaged) and min(self.damaged[name] for name in damaged) > since_s
        )

    def _deleted(self, label: str) -> None:
        gone = self.manifests[label]
        was_good = self._is_good(label)
        left = [
            manifest.step
            for other, manifest in self.manifests.items()
            if other != label and self.exists(other) and self._was_good(other)
        ]
        self.world.check(
            not was_good or max(left, default=-1) >= gone.step,
            "the newest good checkpoint was deleted",
        )
        pointer = self.world.bucket.objects.get(f"{self.world.path}/checkpoint")
        self.world.check(
            pointer is not None and f'"{label}"' not in pointer[0].decode().splitlines()[0],
            "a checkpoint was deleted to which TensorFlow is pointed",
        )

    def exists(self, label: str) -> bool:
        return f"{self.world.path}/{label}{MANIFEST_SUFFIX}" in self.world.bucket.objects

    def pointed_at_the_newest(self) -> None:
        if self.world.faults.store.lists_late_s:
            return  # a last save that was committed and wasn't listed is found by nobody who points
        newest = list_checkpoints(self.world.output)
        data = self.world.bucket.objects.get(f"{self.world.path}/checkpoint")
        first = data[0].decode().splitlines()[0] if data else ""
        self.world.check(
            not newest or f'"{newest[0].label}"' in first,
            "TensorFlow isn't pointed at the newest checkpoint",
        )
