"""Which uploads that nobody will finish are aborted, and which are left alone?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import SourceError
from orchestrator.store.objects.layout import read_generation_id
from orchestrator.store.objects.location import Location
from orchestrator.store.transfer.multipart import abort_abandoned
from tests.store.part_stores import S3, Google

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
