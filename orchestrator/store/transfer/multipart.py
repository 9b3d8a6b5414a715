"""How does a large file go up in parallel parts, store by store?

Rule: S3 has multipart uploads, Google has compose; either way the object appears whole at the end
or not at all, parts of a failed try are taken away, and no more than IN_FLIGHT_BYTES of the file
are in memory at a time. Azure's client reads what it sends from a file and makes its own blocks;
other stores take the bytes through a file of their client's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import OrchestratorError
from orchestrator.store.objects.content import Content, Reader, chunks_of
from orchestrator.store.objects.layout import GenerationId, read_generation_id
from orchestrator.store.objects.location import Location
from orchestrator.store.transfer.watchdog import TransferProgress, undone_by

PART_BYTES = 16 << 20
"""S3 takes parts from 5 MiB on. With this one files of up to 156 GiB fit ``MAX_PARTS``, and little
has to be sent again where a part fails.
"""
IN_FLIGHT_BYTES = 160 << 20
"""Ten parts: a store gives each connection so much and no more (S3 some 85 MB/s, says its guide to
performance), and its client alone uses ten. With four a save ran at 0.57 of what the client moves.
"""
GOOGLE_SHARE = 0.4
"""Of these bytes: gcsfs has four copies of each part in its requests, so that four of them take as
much memory as ten of S3's.
"""
PARALLEL = 10
"""Parts at a time at most; ``IN_FLIGHT_BYTES`` allows fewer of them where they are large."""
MAX_PARTS = 10_000
"""S3 allows no more. Google composes any number, 32 at a time, in levels. Where fewer are allowed the
parts are larger, so that fewer of them fit ``IN_FLIGHT_BYTES``: with 1,000 a file of 32 GiB went up
one part after the other.
"""
COMPOSE_AT_ONCE = 32
"""Google Cloud Storage's own limit of one compose request."""
REQUESTS_AT_ONCE = 16
"""Requests that move no bytes (compose, delete): a file of 10,000 parts takes some 330 of the one and
10,000 of the other, which one after the other would take longer than the bytes.
"""

SendPart = Callable[[int, bytes], Awaitable[Any]]


def part_bytes(size_bytes: int, wanted: int = PART_BYTES) -> int:
    """How large the parts of a file are, so that MAX_PARTS suffice."""
    return max(wanted, -(-size_bytes // MAX_PARTS))


async def send_content(
    content: Content,
    target: Location,
    progress: TransferProgress,
    wanted_part_bytes: int = PART_BYTES,
    in_flight_bytes: int = IN_FLIGHT_BYTES,
) -> None:
    """Uploads one file, in parts where it's large and the store knows how. Raises whatever the
    client raises.

    Args:
        in_flight_bytes: bytes of it that may be in memory on their way; one part may at least.
    """
    part = part_bytes(content.size_bytes, wanted_part_bytes)
    if content.size_bytes <= part:
        await target.fs._pipe_file(target.path, content.read(0, part))
        progress.add(content.size_bytes)
    elif target.protocol in ("s3", "s3a"):
        await _send_to_s3(_Parts(content, part, in_flight_bytes), target, progress)
    elif target.protocol in ("gs", "gcs"):
        in_memory = _Parts(content, part, int(GOOGLE_SHARE * in_flight_bytes))
        await _send_to_google(in_memory, target, progress)
    elif target.protocol in ("abfs", "abfss", "az"):
        await target.fs._pipe_file(target.path, _Counted(content, progress))
    else:
        await asyncio.to_thread(send_through_file, content, target, progress)


def send_through_file(content: Content, target: Location, progress: TransferProgress) -> None:
    """Writes a content into a file of the store's client, chunk by chunk."""
    with target.fs.open(target.path, "wb") as file:
        if hasattr(file, "set_pipelined"):
            file.set_pipelined(True)  # sftp waits for each answer otherwise
        for chunk in chunks_of(content):
            file.write(chunk)
            progress.add(len(chunk))


class _Counted(Reader):
    """A reader whose reading counts as progress."""

    def __init__(self, content: Content, progress: TransferProgress) -> None:
        super().__init__(content)
        self._progress = progress

    def readinto(self, buffer: Any) -> int:
        size = super().readinto(buffer)
        self._progress.add(size)
        return size


@dataclass(frozen=True)
class _Parts:
    """A content as parts of ``part_bytes``, of which so many bytes may be in memory."""

    content: Content
    part_bytes: int
    in_flight_bytes: int

    async def send(self, send: SendPart, progress: TransferProgress) -> list[Any]:
        """Sends every part; the first failure cancels the others. Results in the parts' order."""
        room = asyncio.Semaphore(max(1, min(PARALLEL, self.in_flight_bytes // self.part_bytes)))

        async def one(number: int) -> Any:
            async with room:
                data = self.content.read(number * self.part_bytes, self.part_bytes)
                answer = await send(number, data)
                progress.add(len(data))
                return answer

        count = -(-self.content.size_bytes // self.part_bytes)
        async with asyncio.TaskGroup() as tasks:
            results = [tasks.create_task(one(number)) for number in range(count)]
        return [result.result() for result in results]


async def _send_to_s3(parts: _Parts, target: Location, progress: TransferProgress) -> None:
    fs = target.fs
    bucket, key, _ = fs.split_path(target.path)
    upload = await fs._call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    whole = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}

    async def send(number: int, data: bytes) -> dict[str, Any]:
        # S3 counts parts from 1
        answer = await fs._call_s3("upload_part", **whole, PartNumber=number + 1, Body=data)
        return {"PartNumber": number + 1, "ETag": answer["ETag"]}

    async with undone_by(lambda: fs._call_s3("abort_multipart_upload", **whole)):
        sent = await parts.send(send, progress)
        await fs._call_s3("complete_multipart_upload", **whole, MultipartUpload={"Parts": sent})


async def _send_to_google(parts: _Parts, target: Location, progress: TransferProgress) -> None:
    fs, token = target.fs, uuid.uuid4().hex
    made: list[str] = []

    async def send(number: int, data: bytes) -> str:
        name = f"{target.path}.part-{token}-{number:05d}"
        made.append(name)
        await fs._pipe_file(name, data)
        return name

    async def remove() -> None:
        await _side_by_side([functools.partial(_without_trouble, fs, name) for name in made])

    async with undone_by(remove):
        level: Sequence[str] = await parts.send(send, progress)
        # Composed objects may be composed again, so more parts than one request takes need levels
        while len(level) > COMPOSE_AT_ONCE:
            groups = [
                level[start : start + COMPOSE_AT_ONCE]
                for start in range(0, len(level), COMPOSE_AT_ONCE)
            ]
            names = [
                f"{target.path}.part-{token}-{len(level)}-{number:05d}"
                for number in range(len(groups))
            ]
            made.extend(names)
            await _side_by_side(
                [
                    functools.partial(_composed, fs, name, group, progress)
                    for name, group in zip(names, groups, strict=True)
                ]
            )
            level = names
        await fs._merge(target.path, level)
    await remove()


async def _composed(fs: Any, name: str, group: Sequence[str], progress: TransferProgress) -> None:
    await fs._merge(name, group)
    progress.add(0)  # moves no bytes from here, and is a sign of life all the same


async def _without_trouble(fs: Any, name: str) -> None:
    # What's left of a part costs a little space and nothing else: a failure here isn't one of the
    # save
    with contextlib.suppress(Exception):
        await fs._rm_file(name)


async def _side_by_side(requests: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Make requests, so many at a time; the first failure cancels the others."""
    room = asyncio.Semaphore(REQUESTS_AT_ONCE)

    async def one(request: Callable[[], Awaitable[None]]) -> None:
        async with room:
            await request()

    async with asyncio.TaskGroup() as tasks:
        for request in requests:
            tasks.create_task(one(request))


def abort_abandoned(output: Location, before: GenerationId | None = None) -> int:
    """Aborts multipart uploads of this run that nobody will finish: their parts cost money and are
    in no listing.

    Only S3 has such.

    Args:
        before: only those of earlier generations than this; None for all.

    Returns:
        How many were aborted. Raises OutputError, StorageUnavailable.
    """
    if output.protocol not in ("s3", "s3a"):
        return 0
    bucket, path, _ = output.fs.split_path(output.path)
    prefix = path.rstrip("/") + "/"
    listed = output.call("list", "call_s3", "list_multipart_uploads", Bucket=bucket, Prefix=prefix)
    aborted = 0
    for item in listed.get("Uploads", []):
        key = str(item["Key"])
        generation_id = (
            read_generation_id(key.removeprefix(prefix).partition("/")[0])
            if key.startswith(prefix)
            else None
        )
        if generation_id is not None and (before is None or generation_id < before):
            with contextlib.suppress(OrchestratorError):  # finished or aborted meanwhile
                output.call(
                    "delete",
                    "call_s3",
                    "abort_multipart_upload",
                    Bucket=bucket,
                    Key=key,
                    UploadId=item["UploadId"],
                )
                aborted += 1
    return aborted
