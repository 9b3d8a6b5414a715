"""Does the report's model tell what the journal holds, no less and no more?"""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.report.happenings import decisions, incidents, saves, stagings
from launch.report.lanes import lanes, lives
from launch.report.model import Report, flat, report
from launch.report.series import MOST_POINTS, Point, points, smoothed, thinned
from launch.runs.history import history
from launch.runs.status_model import Driver, LeaseHolder, run_status
from orchestrator.decide.timeline import timeline
from orchestrator.journal.parsing import parse_all
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.lineage import record_takeover
from tests.launch import journals
from tests.launch.journals import Event, event
from tests.store.runs import saved

Bar = tuple[int, int, str, float, float | None, str]


def bars(events: list[Event]) -> list[Bar]:
    return [
        (item.rank, item.generation, item.worker, item.begin, item.end, item.ended)
        for item in sorted(
            lanes(timeline(parse_all(events))), key=lambda item: (item.begin, item.rank)
        )
    ]


def adopted(complete: bool, workers: list[str]) -> list[Event]:
    return [
        event(60, "attempt", 2),
        event(61, "adopted", 2, workers=workers, generation=1, complete=complete, step=900),
    ]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(
            journals.beginning(),
            [(0, 1, "w0001", 6.0, None, ""), (1, 1, "w0002", 6.0, None, "")],
            id="a living group is open",
        ),
        pytest.param(
            [*journals.beginning(), *journals.loss_of_rank_1()],
            [
                (0, 1, "w0001", 6.0, 30.1, "next generation"),
                (1, 1, "w0002", 6.0, 30.0, "died"),
                (0, 2, "w0001", 30.1, None, ""),
                (1, 2, "w0003", 30.1, None, ""),
            ],
            id="a loss ends one stretch at once and the others with the generation",
        ),
        pytest.param(
            [*journals.beginning(), journals.progress(50, 900), *adopted(True, ["w0001", "w0002"])],
            [(0, 1, "w0001", 6.0, None, ""), (1, 1, "w0002", 6.0, None, "")],
            id="adopted workers go on through a driver's death",
        ),
        pytest.param(
            [*journals.beginning(), journals.progress(50, 900), *adopted(False, ["w0001"])],
            [(0, 1, "w0001", 6.0, None, ""), (1, 1, "w0002", 6.0, 50.0, "gone with the driver")],
            id="a worker that isn't adopted ended with the driver",
        ),
        pytest.param(
            [*journals.beginning(), journals.progress(50, 900), *journals.beginning(2, 60.0)],
            [
                (0, 1, "w0001", 6.0, 50.0, "gone with the driver"),
                (1, 1, "w0002", 6.0, 50.0, "gone with the driver"),
                (0, 1, "w0001", 66.0, None, ""),
                (1, 1, "w0002", 66.0, None, ""),
            ],
            id="a new start ends the old group",
        ),
    ],
)
def test_lanes_of_a_journal_follow_ranks_through_generations(
    events: list[Event], expected: list[Bar]
) -> None:
    assert bars(events) == expected


def test_lanes_of_an_ended_run_are_all_closed_and_name_their_process() -> None:
    found = lanes(timeline(parse_all(journals.whole_run())))
    assert {item.ended for item in found if item.end == 89.0} == {"the run ended"}
    assert all(item.end is not None for item in found)
    assert {(item.worker, item.pid, item.node) for item in found if item.rank == 1} == {
        ("w0002", 101, "node-b"),
        ("w0003", 102, "node-a"),
    }


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("save_committed", "committed"),
        ("save_failed", "failed"),
        ("save_refused", "refused"),
        ("save_lost", "lost"),
        ("save_cancelled", "cancelled"),
        ("save_skipped", "skipped"),
        ("progress", "under way"),
    ],
)
def test_save_is_told_once_with_how_it_ended(kind: str, state: str) -> None:
    events = [
        event(0, "attempt"),
        event(10, "save_agreed", step=100, writer="w0001"),
        event(12, kind, step=100, reason="why"),
    ]
    found = saves(timeline(parse_all(events)))
    assert [(save.step, save.state, save.begin, save.end) for save in found] == [
        (100, state, 10.0, 12.0)
    ]


def test_save_at_the_first_step_past_the_agreed_one_is_told_once_and_what_was_skipped_ends_none() -> (
    None
):
    events = [
        *journals.beginning(),
        event(10, "save_agreed", step=30, generation=1, writer="w0001"),
        event(11, "save_skipped", step=40, reason="the save of step 30 is still under way"),
        event(12, "save_committed", step=36, generation=1, checkpoint="a0001-g0001/m-36"),
    ]
    found = [(mark.step, mark.state, mark.begin) for mark in saves(timeline(parse_all(events)))]
    assert found == [(40, "skipped", 11.0), (36, "committed", 10.0)]


def test_incident_begins_at_its_first_symptom() -> None:
    (found,) = incidents(
        timeline(
            parse_all(
                [
                    event(0, "attempt"),
                    event(10, "incident", kind="hung", rank=1, recovered_s=6.5, detected_s=5.1),
                ]
            )
        )
    )
    assert (found.begin, found.end, found.rank, found.detected_s) == (3.5, 10.0, 1, 5.1)


def test_incident_that_was_never_over_stands_where_it_was_written() -> None:
    (found,) = incidents(
        timeline(
            parse_all(
                [event(0, "attempt"), event(10, "incident", kind="died", rank=0, recovered_s=None)]
            )
        )
    )
    assert (found.begin, found.end, found.recovered_s) == (10.0, 10.0, None)


def test_staging_spans_the_seconds_that_it_took() -> None:
    (found,) = stagings(timeline(parse_all(journals.beginning())))
    assert (found.begin, found.end, found.node) == (2.0, 4.0, "node-a")


def test_attempts_without_a_last_word_are_called_lost() -> None:
    found = lives(
        timeline(
            parse_all(
                [*journals.beginning(), *journals.beginning(2, 60.0), journals.finish(90, 1000, 2)]
            )
        )
    )
    assert [(life.attempt, life.begin, life.end, life.how) for life in found] == [
        (1, 0.0, 6.5, "lost without a word"),
        (2, 60.0, 90.0, "done"),
    ]


def test_decisions_leave_out_what_is_shown_elsewhere_and_keep_the_newest() -> None:
    events = [*journals.whole_run(), event(95, "reform_planned", reason="nodes came", boundary=12)]
    found = decisions(timeline(parse_all(events)), 2)
    assert [(item.event, item.text) for item in found] == [
        ("finish", "step 2000 is reached (outcome done, step 2000, checkpoint step 2000)"),
        ("reform_planned", "nodes came (boundary 12)"),
    ]
    assert not {"progress", "save_committed", "incident"} & {
        item.event for item in decisions(timeline(parse_all(events)), 1000)
    }


def test_points_without_a_finite_loss_keep_their_step() -> None:
    events = [
        event(0, "attempt"),
        journals.progress(1, 10, loss=None),
        journals.progress(2, 20, loss="nan"),
        event(3, "progress"),
    ]
    assert [(point.step, point.loss) for point in points(timeline(parse_all(events)))] == [
        (10, None),
        (20, None),
    ]


def test_thinning_keeps_first_last_and_every_spike() -> None:
    found = [
        Point(float(step), step, 9.0 if step == 7777 else 1.0, 10.0, 2) for step in range(20_000)
    ]
    kept = thinned(found)
    assert len(kept) <= MOST_POINTS
    assert (kept[0], kept[-1]) == (found[0], found[-1])
    assert 9.0 in {point.loss for point in kept}
    assert [point.t for point in kept] == sorted(point.t for point in kept)


def test_thinning_of_few_points_changes_nothing() -> None:
    found = [Point(float(step), step, None, None, None) for step in range(5)]
    assert thinned(found) == tuple(found)


def test_flat_settings_are_dotted_and_unset_ones_left_out() -> None:
    values = {
        "workers": {"count": 2, "min": None},
        "watch": ["a:0", "b:0"],
        "feed": {},
        "seed": 0,
        "wait": False,
    }
    assert flat(values) == [
        ("workers.count", "2"),
        ("watch", "a:0, b:0"),
        ("seed", "0"),
        ("wait", "False"),
    ]


def whole_report(events: list[Event], driver: Driver = Driver.RELEASED) -> Report:
    seen = history(events)
    status = run_status(
        "gs://b/more",
        seen,
        driver,
        LeaseHolder(1, "ann"),
        {"source": "gs://b/run"},
        None,
        now=journals.EPOCH + 100,
    )
    return report(status, seen, {"source": "gs://b/run"}, (), made_at=journals.EPOCH + 100)


def test_report_of_a_run_accounts_for_every_second() -> None:
    found = whole_report(journals.whole_run())
    assert sum(share.seconds for share in found.shares) == pytest.approx(found.wall_s)
    assert sum(share.fraction for share in found.shares) == pytest.approx(1.0)
    assert (found.seconds, found.step, found.state) == (89.0, 2000, "done")


def test_report_of_a_run_that_never_spoke_is_empty_and_whole() -> None:
    found = whole_report([], Driver.DEAD)
    assert (found.seconds, found.series, found.lanes, found.incidents, found.begun_at) == (
        0.0,
        (),
        (),
        (),
        None,
    )


def point(step: int, loss: float | None) -> Point:
    return Point(float(step), step, loss, None, None)


def test_smoothed_loss_stands_beside_the_points_and_begins_at_the_first() -> None:
    noisy = [point(step, 1.0 + (0.5 if step % 2 else -0.5)) for step in range(1, 400)]
    found = smoothed(noisy)
    assert [item.loss for item in found] == [item.loss for item in noisy], "points stay as they are"
    assert found[0].smooth == noisy[0].loss
    tail = [item.smooth for item in found[200:] if item.smooth is not None]
    assert len(tail) == 199
    assert max(tail) - min(tail) < 0.2, "noise of 1 from point to point"
    assert abs(sum(tail) / len(tail) - 1.0) < 0.05


def test_smoothed_loss_is_not_held_at_the_first_one() -> None:
    found = smoothed([point(step, 10.0 if step == 1 else 1.0) for step in range(1, 1000)])
    # Among so few the mean is all that a long memory can tell
    assert [item.smooth for item in found[:3]] == pytest.approx([10.0, 5.5, 4.0], rel=0.05)
    anew = smoothed([point(1000, 0.0), point(2, 10.0), point(3, 1.0), point(3, 1.0)])
    assert [item.smooth for item in anew] == pytest.approx([0.0, 10.0, 5.5, 4.0], rel=0.05)


def test_smoothed_loss_begins_anew_where_steps_are_redone_and_passes_gaps() -> None:
    found = smoothed([point(10, 5.0), point(20, None), point(30, 5.0), point(20, 1.0)])
    assert [item.smooth for item in found] == [5.0, None, 5.0, 1.0]
    assert smoothed([]) == ()


def test_size_of_a_checkpoint_is_the_same_in_its_save_and_in_the_list(tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "out"))
    lease = acquire(output)
    record_takeover(output, 1, 1, 0)
    made = saved(output, 600)
    lease.release()
    manifest = made.manifest()
    assert made.size_bytes == sum(item.size_bytes for item in manifest.files)
