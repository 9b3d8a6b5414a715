"""Is what a large upload asks of each store what that store takes, and is nothing left of one that
fails?
"""

from __future__ import annotations

import asyncio
import io
import random
import threading
from typing import Any

import pytest

from orchestrator.errors import SourceError
from orchestrator.store.objects.content import MemoryContent
from orchestrator.store.objects.layout import read_generation_id
from orchestrator.store.objects.location import Location
from orchestrator.store.transfer.multipart import (
    COMPOSE_AT_ONCE,
    MAX_PARTS,
    PARALLEL,
    PART_BYTES,
    abort_abandoned,
    part_bytes,
    send_content,
)
from orchestrator.store.transfer.watchdog import TransferProgress

DATA = random.Random(0).randbytes(1010)
PATH = "bucket/run/a0001-g0001/data"


class Store:
    """What one of the stores holds. ``refused`` is the number of the request that it refuses."""

    async_impl, asynchronous = False, False

    def __init__(self, protocol: Any, refused: int = 0) -> None:
        self.protocol, self.refused = protocol, refused
        self.objects: dict[str, bytes] = {}
        self.requests = self.now = self.most = 0

    async def answered(self) -> None:
        """One more request, beside the others that are under way."""
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        self.requests += 1
        if self.requests == self.refused:
            raise ConnectionResetError("refused")


class S3(Store):
    """Takes the calls of S3 as they're documented, and no others."""

    def __init__(self, protocol: Any = ("s3", "s3a"), refused: int = 0) -> None:
        super().__init__(protocol, refused)
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.partition("/")
        return bucket, key, None

    async def _call_s3(self, method: str, **named: Any) -> dict[str, Any]:
        if method != "abort_multipart_upload":
            await self.answered()
        return self.call_s3(method, **named)

    def call_s3(self, method: str, **named: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, f"on_{method}")(**named)
        return answer

    def on_create_multipart_upload(self, *, Bucket: str, Key: str) -> dict[str, str]:
        self.uploads[f"upload {len(self.uploads)}"] = f"{Bucket}/{Key}", {}
        return {"UploadId": f"upload {len(self.uploads) - 1}"}

    def _parts(self, upload: str, path: str) -> dict[int, bytes]:
        known, parts = self.uploads[upload]
        assert known == path
        return parts

    def on_upload_part(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
        PartNumber: int,
        Body: bytes,
    ) -> dict[str, str]:
        assert 1 <= PartNumber <= MAX_PARTS
        self._parts(UploadId, f"{Bucket}/{Key}")[PartNumber] = Body
        return {"ETag": f"tag {PartNumber}"}

    def on_complete_multipart_upload(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
        MultipartUpload: Any,
    ) -> dict[str, str]:
        parts = self._parts(UploadId, f"{Bucket}/{Key}")
        assert MultipartUpload == {
            "Parts": [
                {"PartNumber": number + 1, "ETag": f"tag {number + 1}"}
                for number in range(len(parts))
            ]
        }
        self.objects[f"{Bucket}/{Key}"] = b"".join(parts[number] for number in sorted(parts))
        del self.uploads[UploadId]
        return {}

    def on_abort_multipart_upload(
        self,
        *,
        Bucket: str,
        Key: str,
        UploadId: str,
    ) -> dict[str, str]:
        if UploadId not in self.uploads:
            raise FileNotFoundError(UploadId)
        self._parts(UploadId, f"{Bucket}/{Key}")
        del self.uploads[UploadId]
        return {}


class Google(Store):
    """Takes the calls of gcsfs; a part that is there already isn't written again."""

    def __init__(self, protocol: Any = ("gs", "gcs"), refused: int = 0) -> None:
        super().__init__(protocol, refused)

    async def _pipe_file(self, path: str, data: bytes) -> None:
        assert path not in self.objects
        await self.answered()
        self.objects[path] = data

    async def _merge(self, path: str, paths: list[str]) -> None:
        assert len(paths) <= COMPOSE_AT_ONCE
        await self.answered()
        self.objects[path] = b"".join(self.objects[each] for each in paths)

    async def _rm_file(self, path: str) -> None:
        await asyncio.sleep(0)
        del self.objects[path]


class Azure(Store):
    """Reads from a file, block by block."""

    async def _pipe_file(self, path: str, file: Any) -> None:
        blocks = [file] if isinstance(file, bytes) else [*iter(lambda: file.read(100), b"")]
        self.objects[path] = b"".join(blocks)


class Written(io.BytesIO):
    """A file of a client's: what it holds is an object once it's closed."""

    pipelined = False

    def __init__(self, store: Any, path: str) -> None:
        super().__init__()
        self.store, self.path = store, path

    def close(self) -> None:
        self.store.objects[self.path] = self.getvalue()
        super().close()


class Sftp(Store):
    """Gives files to write to, from another thread than the loop's."""

    def open(self, path: str, mode: str) -> Written:
        assert mode == "wb"
        assert threading.current_thread() is not threading.main_thread()
        self.file = Written(self, path)
        if self.protocol == "sftp":
            self.file.set_pipelined = self.pipelined  # type: ignore[attr-defined]
        return self.file

    def pipelined(self, on: bool) -> None:
        self.file.pipelined = on


def sent(store: Any, size: int = 100, in_flight: int = 1000, data: bytes = DATA) -> int:
    """Uploads it in parts of a size; the progress that was told."""
    progress = TransferProgress()
    target = Location(f"x://{PATH}", PATH, store)
    content = MemoryContent("data", [data])
    asyncio.run(send_content(content, target, progress, size, in_flight))
    assert progress.marks > 0
    return progress.bytes


@pytest.mark.parametrize(
    "store",
    [
        S3(),
        S3("s3a"),
        Google(),
        Google("gcs"),
        *(Azure(name) for name in ("abfs", "abfss", "az")),
        Sftp("sftp"),
        Sftp("smb"),
    ],
    ids=lambda store: str(store.protocol),
)
def test_large_file_arrives_whole_in_each_store_and_nothing_else_does(store: Store) -> None:
    assert sent(store) == len(DATA)
    assert store.objects == {PATH: DATA}
    if isinstance(store, S3):
        assert store.uploads == {}
        assert store.requests == 1 + 11 + 1
    if isinstance(store, Google):
        assert store.requests == 11 + 1
    if isinstance(store, Sftp):
        assert store.file.pipelined is (store.protocol == "sftp")


@pytest.mark.parametrize("size", [1010, 2000])
def test_file_of_one_part_goes_up_by_one_request(size: int) -> None:
    store = Google()
    assert sent(store, size) == len(DATA)
    assert (store.objects, store.requests) == ({PATH: DATA}, 1)


@pytest.mark.parametrize("refused", [1, 2, 8, 12, 13])
def test_nothing_is_left_of_an_upload_to_s3_that_fails(refused: int) -> None:
    store = S3(refused=refused)
    with pytest.raises((ExceptionGroup, ConnectionResetError)):
        sent(store)
    assert (store.objects, store.uploads) == ({}, {})


@pytest.mark.parametrize("refused", [1, 8, 39, 40, 41, 42])
def test_nothing_is_left_of_an_upload_to_google_that_fails(refused: int) -> None:
    """Thirty-nine parts, two requests that compose them and one that composes these."""
    store = Google(refused=refused)
    with pytest.raises((ExceptionGroup, ConnectionResetError)):
        sent(store, 26)
    assert store.objects == {}


@pytest.mark.parametrize(("parts", "composed"), [(32, 1), (33, 3), (64, 3)])
def test_google_composes_in_levels_only_what_one_request_does_not_take(
    parts: int, composed: int
) -> None:
    store = Google()
    data = DATA[: 10 * parts]
    assert sent(store, 10, data=data) == len(data)
    assert store.objects == {PATH: data}
    assert store.requests == parts + composed


def test_two_uploads_of_one_file_at_once_do_not_meddle_with_each_others_parts() -> None:
    store = Google()
    target = Location(f"x://{PATH}", PATH, store)

    async def both() -> None:
        content = MemoryContent("data", [DATA])
        await asyncio.gather(
            *(send_content(content, target, TransferProgress(), 100, 1000) for _ in range(2))
        )

    asyncio.run(both())
    assert store.objects == {PATH: DATA}


@pytest.mark.parametrize(
    ("in_flight", "most"), [(0, 1), (199, 1), (299, 2), (1000, 10), (5000, PARALLEL)]
)
def test_no_more_parts_are_under_way_than_there_is_memory_for(in_flight: int, most: int) -> None:
    store = S3()
    sent(store, 100, in_flight, data=DATA * 2)
    assert store.most == most


def test_parts_are_a_byte_longer_where_a_byte_more_would_not_fit() -> None:
    assert part_bytes(MAX_PARTS * PART_BYTES) == PART_BYTES
    assert part_bytes(MAX_PARTS * PART_BYTES + 1) == PART_BYTES + 1


UPLOADS = {
    "older": "bucket/runX/a0001-g0001/data",
    "older too": "bucket/runX/a0001-g0001/deeper/data",
    "finished": "bucket/runX/a0001-g0002/data",
    "newer": "bucket/runX/a0002-g0001/data",
    "deeper": "bucket/runX/deeper/a0001-g0001/data",
    "another run's": "bucket/runXX/a0001-g0001/data",
    "none of a run": "bucket/a0001-g0001/data",
    "another file": "bucket/runX/other/data",
}


class Unfinished(S3):
    """Lists uploads, one of which has just been finished."""

    listed: dict[str, str] = UPLOADS
    denied = False

    def on_list_multipart_uploads(self, *, Bucket: str, Prefix: str) -> dict[str, Any]:
        assert (Bucket, Prefix) == ("bucket", "runX/")
        if not self.listed:
            return {}
        if self.denied:
            raise PermissionError("denied")
        self.uploads = {name: (path, {}) for name, path in self.listed.items()}
        del self.uploads["finished"]
        return {
            "Uploads": [
                {"UploadId": name, "Key": path.removeprefix("bucket/")}
                for name, path in self.listed.items()
            ]
        }


@pytest.mark.parametrize("protocol", ["s3", "s3a"])
@pytest.mark.parametrize(
    ("before", "aborted"),
    [
        (None, {"older", "older too", "newer"}),
        ("a0002-g0001", {"older", "older too"}),
        ("a0002-g0002", {"older", "older too", "newer"}),
        ("a0001-g0001", set()),
    ],
)
def test_unfinished_uploads_of_this_runs_earlier_generations_are_aborted(
    protocol: str, before: str | None, aborted: set[str]
) -> None:
    store = Unfinished(protocol)
    output = Location("s3://bucket/runX/", "bucket/runX/", store)
    assert abort_abandoned(output, read_generation_id(before) if before else None) == len(aborted)
    assert UPLOADS.keys() - store.uploads.keys() == aborted | {"finished"}


def test_store_without_unfinished_uploads_has_none_aborted() -> None:
    store = Unfinished()
    store.listed = {}
    assert abort_abandoned(Location("s3://bucket/runX", "bucket/runX", store)) == 0
    google = Location("gs://bucket/runX", "bucket/runX", Google())
    assert abort_abandoned(google) == 0


def test_refusal_to_list_unfinished_uploads_is_told_as_one() -> None:
    store = Unfinished()
    store.denied = True
    with pytest.raises(SourceError, match="no permission to list s3://bucket/runX"):
        abort_abandoned(Location("s3://bucket/runX", "bucket/runX", store))
