"""Does everybody who looks on see the same, and does one that fails harm nobody?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.driver.observer import Observers, RunProgress

PROGRESS = RunProgress(7, 0.5, 1.0, None, 2, 10)


class Looker:
    """Keeps what it sees; fails at what a test says."""

    def __init__(self, fails: str = "") -> None:
        self.seen: list[Any] = []
        self.fails = fails

    def _see(self, what: str, value: Any = None) -> None:
        self.seen.append((what, value))
        if what == self.fails:
            raise OSError(f"no {what}")

    def event(self, event: Any) -> None:
        self._see("event", event)

    def progress(self, progress: Any) -> None:
        self._see("progress", progress)


class Closing(Looker):
    def past(self, counted: Any) -> None:
        self._see("past", counted)

    def close(self) -> None:
        self._see("close")


def test_all_see_what_happens_and_whoever_asks_also_what_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, added = Looker(), Closing()
    several = Observers([first])
    several.add(added)
    several.past("counted")
    several.event({"event": "e"})
    several.progress(PROGRESS)
    several.close()
    assert first.seen == [("event", {"event": "e"}), ("progress", PROGRESS)]
    assert added.seen == [("past", "counted"), *first.seen, ("close", None)]
    assert not caplog.records


@pytest.mark.parametrize("what", ["event", "progress"])
def test_one_that_fails_is_closed_told_and_asked_no_more(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    failing, other = Closing(what), Closing("close")
    several = Observers([failing, other])
    for _ in range(2):
        several.event({})
        several.progress(PROGRESS)
    several.close()
    assert failing.seen[-2:] == [(what, {} if what == "event" else PROGRESS), ("close", None)]
    assert [seen for seen, _ in other.seen] == ["event", "progress"] * 2 + ["close"]
    assert [record.getMessage() for record in caplog.records] == [
        f"an observer is dropped since it failed: OSError: no {what}",
        "an observer couldn't be closed: OSError: no close",
    ]
