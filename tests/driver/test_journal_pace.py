"""Is progress written down densely at first, and thinly in the long run?"""

from __future__ import annotations

from orchestrator.driver.journal_pace import FIRST_S, LONGEST_S, JournalPace, every_s


def written(seconds: float, pulse_s: float = 0.2) -> list[float]:
    pace, found = JournalPace(), list[float]()
    for number in range(int(seconds / pulse_s)):
        now_s = number * pulse_s
        if pace.is_due(now_s):
            pace.written(now_s)
            found.append(now_s)
    return found


def test_short_run_has_a_curve_and_a_long_one_no_more_lines_than_before() -> None:
    assert len(written(5.0)) >= 10
    first_minutes = len(written(300.0))
    assert 150 <= first_minutes <= 350
    hour = written(3600.0)
    assert len(hour) - first_minutes <= 3300 / LONGEST_S + 1


def test_interval_only_grows_and_status_is_never_older_than_the_longest() -> None:
    intervals = [every_s(second) for second in range(4000)]
    assert intervals == sorted(intervals)
    assert (intervals[0], intervals[-1]) == (FIRST_S, LONGEST_S)


def test_progress_after_an_incident_is_written_at_once() -> None:
    pace = JournalPace()
    assert pace.is_due(0.0)
    pace.written(1000.0)
    assert not pace.is_due(1000.2)
    pace.hurry()
    assert pace.is_due(1000.2)


def test_interval_is_reckoned_from_the_first_progress_and_ends_when_it_is_over() -> None:
    assert [every_s(trained_s) for trained_s in (0.0, 60.0, 120.0, 1e6)] == [0.25, 1.0, 2.0, 5.0]
    pace = JournalPace()
    assert pace.is_due(1000.0)
    pace.written(1000.0)
    assert not pace.is_due(1000.125)
    assert pace.is_due(1000.25)
