"""Committing, resolving, staging and letting go mean the same on every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import LeaseLost, OutputError
from orchestrator.store.checkpoints import run_checkpoints
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.checkpoints.pointer import read_pointer
from orchestrator.store.checkpoints.pointing import set_pointer
from orchestrator.store.checkpoints.reports import checkpoints_report
from orchestrator.store.checkpoints.retention import prune, retain
from orchestrator.store.checkpoints.run_checkpoints import list_checkpoints
from orchestrator.store.checkpoints.source import newest_source, resolve_source
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.lineage import read_lineage, record_takeover
from orchestrator.store.transfer.staging import stage
from orchestrator.store.transfer.upload import upload
from tests.servers.programs import BUCKET, Server
from tests.store.runs import saved, uploaded

pytestmark = pytest.mark.turns(3)


def test_commit_files_without_manifest_dont_exist(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    uploaded(store, 100)
    assert list_checkpoints(store) == ()
    newest = newest_good(store)
    assert newest.checkpoint is None
    assert "never committed" in newest.refused[0].reason


def test_commit_newest_is_found_pointed_at_and_staged(store: Location, tmp_path: Path) -> None:
    record_takeover(store, 1, 1, 0)
    saved(store, 100)
    checkpoint = saved(store, 200, position=37)
    assert checkpoint.label == "a0001-g0001/model.ckpt-200"
    assert [item.step for item in list_checkpoints(store)] == [200, 100]
    assert read_pointer(store) == "a0001-g0001/model.ckpt-200"
    source, newest = newest_source(store)
    assert source is not None
    assert (source.step, source.name, source.manifest.position if source.manifest else None) == (
        200,
        "model.ckpt",
        37,
    )
    assert newest.refused == ()
    prefix = stage(source.files, tmp_path / "cache")
    assert Path(f"{prefix}.index").is_file()
    assert Path(f"{prefix}.data-00000-of-00001").stat().st_size == source.files[1].size_bytes


def test_commit_called_again_changes_nothing(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    manifest = uploaded(store, 100)
    commit(store, manifest)
    commit(store, manifest)
    assert len(list_checkpoints(store)) == 1


def test_commit_other_save_under_the_same_name_is_refused(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    manifest = uploaded(store, 100)
    commit(store, manifest)
    with pytest.raises(OutputError, match="exists already"):
        commit(store, manifest.model_copy(update={"save_id": "another"}))


def test_commit_missing_file_is_refused(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    manifest = uploaded(store, 100)
    store.child("a0001-g0001", "model.ckpt-100.index").delete()
    with pytest.raises(OutputError, match=r"model\.ckpt-100\.index has no of"):
        commit(store, manifest)
    assert list_checkpoints(store) == ()


def test_upload_over_a_committed_checkpoint_is_refused(store: Location, tmp_path: Path) -> None:
    record_takeover(store, 1, 1, 0)
    saved(store, 100)
    file = tmp_path / "model.ckpt-100.index"
    file.write_bytes(b"other")
    with pytest.raises(OutputError, match="committed already"):
        upload([file], store.child("a0001-g0001"))


def test_rollback_reaching_the_same_step_again_keeps_both(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    first = saved(store, 100)
    saved(store, 200)
    record_takeover(store, 1, 2, 100, parent=(1, 1))
    second = saved(store, 200, generation=2)
    assert first.label != second.label
    labels = [item.label for item in list_checkpoints(store)]
    assert labels == ["a0001-g0002/model.ckpt-200", "a0001-g0001/model.ckpt-100"]


def test_paused_writer_waking_up_is_fenced(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    saved(store, 100)
    late = uploaded(store, 200)
    record_takeover(store, 2, 1, 100, parent=(1, 1))
    with pytest.raises(LeaseLost, match="taken over at step 100"):
        commit(store, late)
    # It may have passed that check before it was paused, so that its manifest and pointer are
    # written all the same
    store.child("a0001-g0001", late.file_name).write_bytes(late.to_bytes())
    store.child("checkpoint").write_bytes(b'model_checkpoint_path: "a0001-g0001/model.ckpt-200"\n')
    newest = newest_good(store)
    assert newest.checkpoint is not None
    assert newest.checkpoint.step == 100
    set_pointer(store)
    assert read_pointer(store) == "a0001-g0001/model.ckpt-100"
    saved(store, 150, attempt=2)
    assert [item.step for item in list_checkpoints(store)] == [150, 100]


def test_takeover_by_a_stale_attempt_is_refused(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    record_takeover(store, 2, 1, 50)
    with pytest.raises(LeaseLost):
        record_takeover(store, 1, 2, 60)
    assert [link.step for link in read_lineage(store).chain] == [0, 50]


def test_retain_keeps_the_window_and_deletes_only_listed_files(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    for step in (100, 200, 300, 400):
        saved(store, step)
    store.child("a0001-g0001", "notes.txt").write_bytes(b"mine")
    store.child("a0001-g0001", "model.ckpt-100.index.bak").write_bytes(b"mine")
    store.child("model.ckpt-100.index").write_bytes(b"mine")
    done = retain(store, max_to_keep=2, keep_every_hours=10000)
    assert done.deleted == ("a0001-g0001/model.ckpt-200", "a0001-g0001/model.ckpt-100")
    assert [item.step for item in list_checkpoints(store)] == [400, 300]
    names = {entry.name for entry in store.child("a0001-g0001").list()}
    assert {"notes.txt", "model.ckpt-100.index.bak"} <= names
    assert not any(name.startswith(("model.ckpt-100.d", "model.ckpt-200")) for name in names)
    assert store.child("model.ckpt-100.index").exists()
    assert store.child("_tfresume", "deleting").list() == ()


def test_retain_protected_and_last_good_stay(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    for step in (100, 200, 300, 400):
        saved(store, step)
    for step in (300, 400):
        store.child("a0001-g0001", f"model.ckpt-{step}.index").write_bytes(b"broken")
    done = retain(
        store, max_to_keep=1, keep_every_hours=10000, protect={"a0001-g0001/model.ckpt-100"}
    )
    assert done.deleted == ("a0001-g0001/model.ckpt-300",)
    newest = newest_good(store)
    assert newest.checkpoint is not None
    assert newest.checkpoint.step == 200


def test_store_that_lists_late_sets_no_pointer_back_and_deletes_nothing(
    store: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_takeover(store, 1, 1, 0)
    for step in (100, 200):
        saved(store, step)
    newest = saved(store, 300).label
    real = run_checkpoints._written_by
    monkeypatch.setattr(
        run_checkpoints,
        "_written_by",
        lambda *given: [item for item in real(*given) if item.label != newest],
    )
    set_pointer(store, read_lineage(store), newest)
    done = retain(store, max_to_keep=1, keep_every_hours=10000, protect=(newest,))
    assert done.deleted == ()
    assert read_pointer(store) == newest


def test_prune_removes_what_the_run_cant_use(store: Location) -> None:
    record_takeover(store, 1, 1, 0)
    saved(store, 100)
    saved(store, 200)
    record_takeover(store, 2, 1, 100, parent=(1, 1))
    saved(store, 150, attempt=2)
    uploaded(store, 170, attempt=2)
    states = {row.label: row.state for row in checkpoints_report(store).checkpoints}
    assert states == {
        "a0002-g0001/model.ckpt-170": "incomplete",
        "a0002-g0001/model.ckpt-150": "good",
        "a0001-g0001/model.ckpt-200": "fenced",
        "a0001-g0001/model.ckpt-100": "good",
    }
    assert prune(store, held=True).leftovers == ()  # may be the driver's save under way
    done = prune(store, held=False)
    assert len(done.leftovers) == 3
    assert [item.step for item in list_checkpoints(store)] == [150, 100]
    assert {row.state for row in checkpoints_report(store, verify=True).checkpoints} == {"good"}


def test_prune_aborts_uploads_that_a_death_left_unfinished(s3_server: Server) -> None:
    output = open_location(s3_server.url("abandoned"), **s3_server.options())
    record_takeover(output, 1, 1, 0)
    saved(output, 100)
    key = "abandoned/a0001-g0001/model.ckpt-200.data-00000-of-00001"
    older = "abandoned/a0001-g0000/model.ckpt-50.data-00000-of-00001"
    for name in (key, older, "abandoned-other/file", "abandoned/own.bin"):
        output.fs.call_s3("create_multipart_upload", Bucket=BUCKET, Key=name)
    retain(output, max_to_keep=5, keep_every_hours=1000)
    assert uploads_under_way(output) == {key, "abandoned-other/file", "abandoned/own.bin"}
    prune(output, held=True)
    assert key in uploads_under_way(output)
    prune(output, held=False)
    assert uploads_under_way(output) == {"abandoned-other/file", "abandoned/own.bin"}
    assert [item.step for item in list_checkpoints(output)] == [100]


def test_report_of_many_checkpoints_looks_into_the_newest_only(
    store: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.checkpoints.reports.QUICK_CHECKS", 2)
    record_takeover(store, 1, 1, 0)
    for step in (100, 200, 300):
        saved(store, step)
    assert [
        (row.step, row.verified, row.state) for row in checkpoints_report(store).checkpoints
    ] == [
        (300, "quick", "good"),
        (200, "quick", "good"),
        (100, "listed", "good"),
    ]
    assert {row.verified for row in checkpoints_report(store, verify=True).checkpoints} == {"deep"}


def uploads_under_way(output: Location) -> set[str]:
    uploads = output.fs.call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads", [])
    return {item["Key"] for item in uploads if item["Key"].startswith("abandoned")}


def test_resolve_directory_of_one_generation_takes_committed_ones_only(
    store: Location, tmp_path: Path
) -> None:
    if not store.is_local:
        pytest.skip("the store's options aren't in its URL; the rule is the same everywhere")
    record_takeover(store, 1, 1, 0)
    saved(store, 100)
    uploaded(store, 200)
    source = resolve_source(store.child("a0001-g0001").url)
    assert source.step == 100
    assert "never committed" in source.refused[0].reason
    assert source.label == "a0001-g0001/model.ckpt-100"
    assert resolve_source(store.url).step == 100
