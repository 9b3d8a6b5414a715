"""What does a driver know of those before it?"""

from __future__ import annotations

from orchestrator.driver.past import fold


def test_a_workers_name_is_never_used_again_also_where_the_journal_does_not_know_it_yet() -> None:
    """A dead driver's last workers, whose start hadn't been written down, lent their names to its
    successor's.
    """
    past = fold([{"event": "worker_start", "attempt": 1, "at": 1.0, "worker": "w0002"}])
    assert past.next_worker(()) == 3
    assert past.next_worker(["w0001", "w0005"]) == 6


def test_training_time_of_all_attempts_is_added_up() -> None:
    records = [
        {"event": "progress", "attempt": attempt, "at": 1.0, "t_s": t_s, "step": 1}
        for attempt, t_s in ((1, 10.0), (1, 60.0), (2, 5.0), (2, 40.0))
    ]
    assert fold(records).trained_s == 100.0
