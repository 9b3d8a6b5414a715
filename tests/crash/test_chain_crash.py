"""Die before every single write of a save of changed rows, and of the clean-up around chains:
afterwards there's the old or the new state, never a mixture, and no chain without a link.
"""

from __future__ import annotations

import pytest

from orchestrator.store.checkpoints.chains import newest_chain
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.retention import prune, retain
from orchestrator.store.checkpoints.run_checkpoints import scan_all
from orchestrator.store.objects.location import Location
from orchestrator.store.run.lineage import record_takeover
from tests.crash.test_commit_crash import each_death
from tests.fakes.dying import Death, dying
from tests.store.chains import Run, assert_state, links_of

pytestmark = [pytest.mark.slow, pytest.mark.turns(9, "dying before every write")]


def _started(output: Location, changes: int) -> Run:
    record_takeover(output, 1, 1, 0)
    run = Run(60)
    run.train()
    run.saved(output)
    for _ in range(changes):
        run.train()
        run.saved_changes(output)
    return run


def _assert_whole(output: Location, run: Run, allowed: set[int]) -> None:
    """The newest state is one of those allowed, to the last byte; no save that counts lacks a link,
    and TensorFlow's pointer names a full checkpoint.
    """
    chain, refused = newest_chain(output, deep=True)
    assert chain is not None
    assert chain.newest.step in allowed
    assert_state(chain, run, chain.newest.step)
    assert all("never committed" in one.reason for one in refused)
    full = newest_good(output, deep=True).checkpoint
    assert full is not None
    pointed = read_pointer(output)
    assert pointed in {item.label for item in scan_all(output)[0] if item.committed}


@pytest.mark.parametrize("store", ["local", "gcs", "s3"], indirect=True)
def test_save_of_changed_rows_dying_before_every_write_leaves_old_or_new(store: Location) -> None:
    runs: list[tuple[Location, Run]] = []

    def attempt(death: Death) -> None:
        output = store.child(f"run{len(runs)}")
        run = _started(output, 1)
        runs.append((output, run))
        run.train()
        with pytest.MonkeyPatch.context() as patch:
            mortal = dying(output, death, patch)
            run.commit(mortal, run.save_changes(mortal, tuple(run.saves)))

    def recovered(at: int) -> None:
        output, run = runs[-1]
        _assert_whole(output, run, {2, 3})
        # The next driver goes on from what is there, in a directory of its own
        chain, _ = newest_chain(output)
        assert chain is not None
        record_takeover(output, 2, 1, chain.newest.step, parent=chain.newest.generation_id)
        prune(output, held=False)
        run.touched[:] = True  # what it has in memory is what it read
        run.commit(output, run.save_changes(output, links_of(chain), attempt=2))
        _assert_whole(output, run, {3})

    deaths = each_death(attempt, recovered)
    _assert_whole(*runs[-1], {3})
    assert deaths >= 4  # two data files, index, manifest


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_clean_up_of_a_chain_dying_before_every_write_leaves_no_chain_without_a_link(
    store: Location,
) -> None:
    runs: list[tuple[Location, Run]] = []

    def attempt(death: Death) -> None:
        output = store.child(f"run{len(runs)}")
        run = _started(output, 2)
        run.train()
        run.saved(output)
        run.train()
        run.saved_changes(output)  # the live chain: m-4 and m-5.changed
        runs.append((output, run))
        with pytest.MonkeyPatch.context() as patch:
            retain(dying(output, death, patch), max_to_keep=1, keep_every_hours=10_000)

    def recovered(at: int) -> None:
        output, run = runs[-1]
        _assert_whole(output, run, {5})
        listed = [item for items in scan_all(output) for item in items]
        labels = {item.label for item in listed}
        for item in listed:
            if item.committed and item.is_changes:
                assert {link.label for link in item.manifest().chain} <= labels, item.label
        retain(output, max_to_keep=1, keep_every_hours=10_000)
        _assert_whole(output, run, {5})
        left = {file.name.partition(".")[0] for file in output.child("a0001-g0001").list()}
        assert left == {"m-4", "m-5"}

    deaths = each_death(attempt, recovered)
    recovered(deaths)
    assert deaths >= 3 * 5  # two saves of changed rows and a full one: note, manifest, files
