"""What the store does when HTTP misbehaves: each fault is fired for real, by a proxy, and each test
asserts that it was.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import AlreadyExists, OutputError, SourceError, StorageUnavailable
from orchestrator.store.checkpoints.commits import commit
from orchestrator.store.checkpoints.newest_good import newest_good
from orchestrator.store.checkpoints.source import newest_source
from orchestrator.store.objects.content import describe
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from orchestrator.store.transfer.download import download
from orchestrator.store.transfer.http_range import link_to
from orchestrator.store.transfer.staging import stage
from orchestrator.store.transfer.upload import upload
from tests.servers.fault_proxy import Kind
from tests.servers.object_stores import HttpStore
from tests.servers.programs import BUCKET
from tests.store.runs import uploaded

pytestmark = pytest.mark.turns(6)

PASSING: list[Kind] = ["unavailable", "throttled", "reset", "reset_in_body", "truncate", "slow"]
PART = 5 << 20


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """Three parts and a bit, nothing compressible or repeated."""
    path = tmp_path / "model.ckpt-7.data-00000-of-00001"
    path.write_bytes(os.urandom(3 * PART + 1234))
    return path


@pytest.mark.parametrize("kind", PASSING)
def test_read_with_a_passing_fault_gives_all_bytes(http_store: HttpStore, kind: Kind) -> None:
    data = os.urandom(300_000)
    http_store.direct.child("file").write_bytes(data)
    fault = http_store.proxy.spoil(kind, "GET", "file")
    assert http_store.root.child("file").read_bytes(0, len(data)) == data
    assert len(fault.fired) == 1


@pytest.mark.parametrize("kind", PASSING)
def test_list_with_a_passing_fault_shows_everything(http_store: HttpStore, kind: Kind) -> None:
    for number in range(3):
        http_store.direct.child(f"file{number}").write_bytes(b"x")
    fault = http_store.proxy.spoil(kind, "GET", "prefix=")
    assert [entry.name for entry in http_store.root.list()] == ["file0", "file1", "file2"]
    assert len(fault.fired) == 1


@pytest.mark.parametrize("kind", ["unavailable", "throttled", "reset", "drop_reply"])
def test_create_once_with_a_passing_fault_wins(http_store: HttpStore, kind: Kind) -> None:
    fault = http_store.proxy.spoil(kind, http_store.put, "winner")
    create_once(http_store.root.child("winner"), b"token of mine")
    assert len(fault.fired) == 1
    assert http_store.direct.child("winner").read_bytes() == b"token of mine"
    with pytest.raises(AlreadyExists):
        create_once(http_store.root.child("winner"), b"token of another")


def test_commit_whose_reply_is_lost_is_committed_once(http_store: HttpStore) -> None:
    record_takeover(http_store.direct, 1, 1, 0)
    manifest = uploaded(http_store.direct, 100)
    fault = http_store.proxy.spoil("drop_reply", http_store.put, manifest.file_name)
    checkpoint = commit(http_store.root, manifest)
    assert len(fault.fired) == 1
    assert checkpoint.manifest() == manifest


@pytest.mark.parametrize("kind", ["unavailable", "throttled", "reset", "drop_reply", "truncate"])
def test_upload_in_parts_with_a_passing_fault_arrives_whole(
    http_store: HttpStore, large_file: Path, kind: Kind
) -> None:
    fault = http_store.proxy.spoil(kind, http_store.put, large_file.name, times=2)
    (record,) = upload([large_file], http_store.root, part_bytes=PART)
    assert len(fault.fired) == 2
    assert http_store.direct.child(large_file.name).read_bytes() == large_file.read_bytes()
    assert record == describe(large_file)
    assert_nothing_left(http_store, large_file.name)


def test_upload_that_hangs_is_cancelled_and_begun_anew(
    http_store: HttpStore, large_file: Path
) -> None:
    fault = http_store.proxy.spoil("hang", http_store.put, large_file.name, times=4)
    upload([large_file], http_store.root, part_bytes=PART, stall_s=1.5)
    assert len(fault.fired) >= 1
    assert http_store.direct.child(large_file.name).read_bytes() == large_file.read_bytes()
    assert_nothing_left(http_store, large_file.name)


def test_upload_that_always_hangs_ends_in_one_error_and_leaves_nothing(
    http_store: HttpStore, large_file: Path
) -> None:
    fault = http_store.proxy.spoil("hang", http_store.put, large_file.name, times=1000)
    with pytest.raises(StorageUnavailable, match="no progress for 1 s"):
        upload([large_file], http_store.root, part_bytes=PART, stall_s=1.0, attempts=2)
    assert len(fault.fired) >= 2
    assert not http_store.direct.child(large_file.name).exists()
    assert_nothing_left(http_store, large_file.name)


def assert_nothing_left(http_store: HttpStore, name: str) -> None:
    """No unfinished multipart upload, no part object."""
    assert [entry.name for entry in http_store.direct.list() if entry.name != name] == []
    if http_store.kind == "s3":
        uploads = http_store.direct.fs.call_s3("list_multipart_uploads", Bucket=BUCKET).get(
            "Uploads", []
        )
        assert [
            item
            for item in uploads
            if item["Key"].startswith(http_store.direct.path.partition("/")[2])
        ] == []


@pytest.mark.parametrize("kind", PASSING)
def test_download_with_a_passing_fault_arrives_whole(
    http_store: HttpStore, large_file: Path, kind: Kind, tmp_path: Path
) -> None:
    upload([large_file], http_store.direct)
    fault = http_store.proxy.spoil(kind, "GET", large_file.name, times=2)
    info = http_store.root.list()[0]
    download(info, tmp_path / "copy", range_bytes=PART)
    assert len(fault.fired) == 2
    assert (tmp_path / "copy").read_bytes() == large_file.read_bytes()


def test_download_range_that_hangs_is_asked_for_again(
    http_store: HttpStore, large_file: Path, tmp_path: Path
) -> None:
    upload([large_file], http_store.direct)
    info = http_store.root.list()[0]
    fault = http_store.proxy.spoil("hang", "GET", large_file.name, times=2)
    download(info, tmp_path / "copy", range_bytes=PART, stall_s=1.0)
    assert len(fault.fired) == 2
    assert (tmp_path / "copy").read_bytes() == large_file.read_bytes()


@pytest.mark.parametrize("kind", ["truncate", "reset_in_body"])
def test_stage_with_cut_bodies_is_whole_and_verified(
    http_store: HttpStore, kind: Kind, tmp_path: Path
) -> None:
    record_takeover(http_store.direct, 1, 1, 0)
    commit(http_store.direct, uploaded(http_store.direct, 100))
    source, _ = newest_source(http_store.root)
    assert source is not None
    fault = http_store.proxy.spoil(kind, "GET", ".data-00000", times=1)
    prefix = stage(source.files, tmp_path)
    assert len(fault.fired) == 1
    assert Path(f"{prefix}.data-00000-of-00001").stat().st_size == source.files[1].size_bytes


def test_store_that_stays_down_is_unavailable_within_the_deadline(http_store: HttpStore) -> None:
    http_store.root.child("file").read_if_exists()  # makes the client, which takes its time
    fault = http_store.proxy.spoil("unavailable", times=10_000)
    with pytest.raises(StorageUnavailable, match="didn't read"):
        http_store.root.child("file").hurried(2.0).read_bytes()
    assert fault.fired


def test_store_that_hangs_is_unavailable_and_no_reason_to_go_back_in_time(
    http_store: HttpStore,
) -> None:
    record_takeover(http_store.direct, 1, 1, 0)
    for step in (100, 200):
        commit(http_store.direct, uploaded(http_store.direct, step))
    http_store.root.child("file").read_if_exists()
    fault = http_store.proxy.spoil("hang", "GET", "ckpt-200.index", times=1000)
    with pytest.raises(StorageUnavailable):
        newest_good(http_store.root.hurried(5.0))  # time for what comes before it on a busy machine
    assert fault.fired


def test_no_permission_is_one_clear_error_that_says_what_to_check(http_store: HttpStore) -> None:
    http_store.direct.child("file").write_bytes(b"x")
    fault = http_store.proxy.spoil("denied", times=1000)
    with pytest.raises(SourceError, match="no permission to read") as caught:
        http_store.root.child("file").read_bytes(0, 1)
    assert "credentials" in caught.value.remedy
    with pytest.raises(OutputError, match="no permission to write"):
        http_store.root.child("file").write_bytes(b"y")
    assert len(fault.fired) == 2


def test_heartbeat_that_hangs_gives_up_before_the_lease_is_over(http_store: HttpStore) -> None:
    lease = acquire(http_store.root, "me", lease_s=3.0)
    fault = http_store.proxy.spoil("hang", times=1000)
    with pytest.raises(StorageUnavailable):
        lease.heartbeat()
    assert fault.fired
    assert lease.now() - lease._last_beat_s < 4.0


def test_expired_credentials_are_one_clear_error_that_names_them(http_store: HttpStore) -> None:
    http_store.direct.child("file").write_bytes(b"x")
    fault = http_store.proxy.spoil("expired", times=1000)
    with pytest.raises(SourceError, match="no permission to read") as caught:
        http_store.root.child("file").read_bytes(0, 1)
    assert "haven't expired" in caught.value.remedy
    with pytest.raises(OutputError, match="no permission to write"):
        create_once(http_store.root.child("other"), b"y")
    assert fault.fired


def test_run_whose_credentials_are_denied_is_no_empty_run(http_store: HttpStore) -> None:
    record_takeover(http_store.direct, 1, 1, 0)
    commit(http_store.direct, uploaded(http_store.direct, 100))
    fault = http_store.proxy.spoil("denied", "GET", "prefix=", times=1000)
    with pytest.raises(SourceError, match="no permission"):
        newest_good(http_store.root)
    assert fault.fired


def test_download_refused_on_the_direct_way_goes_by_the_client(
    http_store: HttpStore, large_file: Path, tmp_path: Path
) -> None:
    upload([large_file], http_store.direct)
    info = http_store.root.list()[0]
    assert link_to(info.location) is not None
    fault = http_store.proxy.spoil("denied", "GET", large_file.name, times=1)
    download(info, tmp_path / "copy", range_bytes=PART, parallel=1)
    assert len(fault.fired) >= 1
    assert (tmp_path / "copy").read_bytes() == large_file.read_bytes()


def test_download_without_permission_is_one_clear_error(
    http_store: HttpStore, large_file: Path, tmp_path: Path
) -> None:
    upload([large_file], http_store.direct)
    info = http_store.root.list()[0]
    fault = http_store.proxy.spoil("denied", "GET", large_file.name, times=1000)
    with pytest.raises(SourceError, match="no permission to read"):
        download(info, tmp_path / "copy", range_bytes=PART)
    assert fault.fired


def test_link_shown_in_a_traceback_holds_no_credentials(http_store: HttpStore) -> None:
    http_store.direct.child("file").write_bytes(b"x")
    link = link_to(http_store.root.child("file"))
    assert link is not None
    assert "Signature" not in repr(link)
    assert "headers" not in repr(link)
