"""Does a save's manifest say what was written, where it comes from, and what it stands on?"""

from __future__ import annotations

import pytest

from orchestrator.decide import events as ev
from orchestrator.decide.save_parts import SavedPart
from orchestrator.driver.save_manifests import Saved, SaveManifests
from orchestrator.errors import OutputError
from orchestrator.store.objects.layout import CHANGED_SUFFIX
from orchestrator.store.objects.manifest import FORMAT, ChainLink, FileRecord, Manifest
from orchestrator.workers.scheduling import Threads

FILES = (FileRecord(name="model.ckpt-5.index", size_bytes=3, crc32c=7),)
TRAINED_S = 5000.0


class Clocks(Threads):
    """They stand still until somebody moves them."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def unix(self) -> float:
        return 1_700_000_000.0 + self.now_s


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def manifests(clocks: Clocks) -> SaveManifests:
    saved = Saved("print", "global_step", ("a repair",), ("an edit",))
    return SaveManifests(saved, 3, TRAINED_S, clocks)


def written(step: int, save: int = 0, over: int = 0) -> ev.SaveWritten:
    """``save``: its number, where it's one in parts; ``over``: what its changed rows stand on."""
    prefix = f"model.ckpt-{step}" + (CHANGED_SUFFIX if over else "")
    part = SavedPart(0, step, 2 * step, save, None, (), over=over) if save else None
    about = ("w", 2, step, 2 * step, "a0003-g0002", prefix)
    return ev.SaveWritten(*about, FILES, {}, part=part)


def test_manifest_tells_all_that_is_known_of_a_save(
    manifests: SaveManifests, clocks: Clocks
) -> None:
    clocks.now_s += 60.0
    made = manifests.of(written(5), 4, "a0003-g0001/model.ckpt-4")
    assert made == Manifest(
        format=1,
        name="model.ckpt",
        step=5,
        attempt=3,
        generation=2,
        files=FILES,
        save_id=made.save_id,
        parent="a0003-g0001/model.ckpt-4",
        position=10,
        world_size=4,
        step_key="global_step",
        training_s=TRAINED_S + 60.0,
        created=1_700_000_160.0,
        repairs=("a repair",),
        edits=("an edit",),
        source="print",
    )


def test_training_time_of_a_manifest_is_never_negative(clocks: Clocks) -> None:
    manifests = SaveManifests(Saved("print", None, ()), 1, 0.0, clocks)
    assert manifests.of(written(5), 1, None).training_s == 0.0
    clocks.now_s -= 1.0  # it only goes forward, but for a fake's or a machine's mistake
    assert manifests.of(written(5), 1, None).training_s == 0.0


def committed(manifests: SaveManifests, *about: int) -> tuple[Manifest, ChainLink]:
    save = written(*about)
    made = manifests.of(save, 2, None)
    manifests.committed(save, made)
    return made, ChainLink(label=made.label, save_id=made.save_id)


def test_save_of_changed_rows_names_the_saves_that_it_stands_on(manifests: SaveManifests) -> None:
    """It stands on the one before, or on what that one stands on where that one is lost."""
    full, first = committed(manifests, 10, 1)
    assert (full.format, full.chain, full.label) == (1, (), "a0003-g0002/model.ckpt-10")
    change, second = committed(manifests, 20, 2, 1)
    assert (change.format, change.chain) == (FORMAT, (first,))
    assert change.label == f"a0003-g0002/model.ckpt-20{CHANGED_SUFFIX}"
    assert committed(manifests, 30, 3, 2)[0].chain == (first, second)
    again, _ = committed(manifests, 40, 4, 2)
    assert again.chain == (first, second)


def test_save_of_changed_rows_on_what_was_never_committed_is_refused(
    manifests: SaveManifests,
) -> None:
    committed(manifests, 10, 1)
    with pytest.raises(OutputError) as refused:
        manifests.of(written(30, 3, 2), 2, None)
    assert refused.value.message == (
        f"model.ckpt-30{CHANGED_SUFFIX} holds what has changed since save 2, which was never committed"
    )
    assert refused.value.remedy == "The next save has to be a full one"


def test_manifests_keep_only_the_chains_that_a_next_save_may_stand_on(
    manifests: SaveManifests,
) -> None:
    for save in (1, 2, 3):
        committed(manifests, 10 * save, save)
    with pytest.raises(OutputError, match="save 1,"):
        manifests.of(written(40, 4, 1), 2, None)
    assert len(manifests.of(written(40, 4, 2), 2, None).chain) == 1
    assert len(manifests.of(written(40, 4, 3), 2, None).chain) == 1
