"""Does an output stay with the source that it began with, and are wishes to stop read as they were made?"""

from __future__ import annotations

import time
import uuid

import pytest

from orchestrator.errors import AlreadyExists, OutputError
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.objects.records import encode
from orchestrator.store.run import run_record
from orchestrator.store.run.run_record import (
    RunRecord,
    StopRequest,
    check_same_source,
    create_run_record,
    read_run_record,
    read_stop_requests,
    request_stop,
)

RECORD = RunRecord(source="gs://a/model-5", fingerprint="aa", name="model", started_step=5)


@pytest.fixture
def output() -> Location:
    return open_location(f"memory://{uuid.uuid4().hex}")


def test_record_is_written_without_secrets(output: Location) -> None:
    url = "https://me:geheim1@host/model-5"
    config = {"password": "geheim2", "workers": 2}
    written = create_run_record(output, RECORD.model_copy(update={"source": url, "config": config}))
    assert written.config == {"password": "***", "workers": 2}
    assert written.source.endswith("@host/model-5")
    assert "geheim" not in written.source
    assert read_run_record(output) == written
    assert written.started_step == 5


def test_record_that_was_taken_away_between_two_looks_is_no_record(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_run_record(output, RECORD)
    monkeypatch.setattr(run_record, "read_run_record", lambda _: None)
    with pytest.raises(AlreadyExists):
        create_run_record(output, RECORD.model_copy(update={"run_id": "another"}))


@pytest.mark.parametrize(
    ("source", "told", "remedy"),
    [
        (
            "gs://b/other",
            "not of gs://b/other",
            "Use another --output, or resume the source that this one is for",
        ),
        (
            "https://me:geheim1@b/other",
            "not of https://***@b/other",
            "Use another --output, or resume the source that this one is for",
        ),
        (
            "gs://a/model-5",
            "as it was at step 5; it has changed since",
            "Give the prefix that it began from (such as model-5), or use another --output",
        ),
    ],
)
def test_output_of_another_source_is_refused_with_both_and_the_way_out(
    output: Location, source: str, told: str, remedy: str
) -> None:
    check_same_source(output, RECORD, source, "aa")
    with pytest.raises(OutputError) as refused:
        check_same_source(output, RECORD, source, "bb")
    comma = "," if told.startswith("not") else ""
    assert refused.value.message == f"{output.shown} holds a run of gs://a/model-5{comma} {told}"
    assert refused.value.remedy == remedy
    assert set(refused.value.details) == {"output_source", "source"}
    assert refused.value.details["output_source"] == "gs://a/model-5"
    assert "geheim" not in str(refused.value.details)
    assert source.endswith(str(refused.value.details["source"])[-7:])


def test_request_to_stop_says_who_asks_whom_for_what_and_when(output: Location) -> None:
    before = time.time()
    asked = request_stop(output, mode="now", attempt=3, asked_by="me")
    assert (asked.mode, asked.attempt, asked.asked_by) == ("now", 3, "me")
    assert before <= asked.at <= time.time()
    assert read_stop_requests(output) == (asked,)
    plain = request_stop(output)
    assert (plain.mode, plain.attempt, plain.asked_by) == ("save", 0, "")
    assert plain.request_id != asked.request_id


def test_requests_to_stop_come_in_the_order_of_their_time_and_strangers_are_no_requests(
    output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = output.child("_tfresume", "stop")
    for at, name in ((3.0, "a"), (1.0, "b"), (2.0, "c")):
        create_once(stop.child(f"{name}.json"), encode(StopRequest(request_id=name, at=at)))
    stop.child("notes.txt").write_bytes(b"not a request")
    assert [request.request_id for request in read_stop_requests(output)] == ["b", "c", "a"]
    read = Location.read_if_exists

    def gone(self: Location) -> bytes | None:
        return None if self.name == "c.json" else read(self)

    monkeypatch.setattr(Location, "read_if_exists", gone)  # answered after the listing
    assert [request.request_id for request in read_stop_requests(output)] == ["b", "a"]
