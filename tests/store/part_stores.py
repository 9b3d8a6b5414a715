"""What do the tests of uploads in parts share? Stores that take the calls of their clients, and no
others.
"""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

from orchestrator.store.transfer.multipart import COMPOSE_AT_ONCE, MAX_PARTS


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
