"""Does one life of the driver begin, end and tell of itself as it should?"""

from __future__ import annotations

import os
import platform
import socket
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide import actions as act
from orchestrator.driver import attempt as attempt_module
from orchestrator.driver.attempt import Attempt, Continuation
from orchestrator.driver.inbox import Interrupted
from orchestrator.driver.past import Past
from orchestrator.driver.save_manifests import Saved
from orchestrator.errors import LeaseLost, StorageUnavailable
from orchestrator.graph.loading import Loading
from orchestrator.journal.folding import frozen
from orchestrator.journal.run_events import OUTER_ATTEMPT, AttemptBegan, RunEnded, Warned
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import Proved, RunRecord

RECORD = RunRecord(source="s", fingerprint="aa", name="m", started_step=0)
DIFFERS = Proved(verdict="differs", told="step 1 isn't what one process computes")
DONE = act.Finish(act.Outcome.DONE, "all steps", 9)


class Bench:
    """An attempt whose parts only say how they were made and what was asked of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: dict[str, tuple[Any, ...]] = {}
        self.asked: list[tuple[Any, ...]] = []
        for name in ("StorageThread", "Heartbeat", "NodeWatch"):
            patch.setattr(attempt_module, name, self._maker(name))
        patch.setattr(attempt_module, "Loop", self._loop)
        self.ends: Any = DONE
        self.confirms: Any = None
        self.run: Any = SimpleNamespace(
            generation=0,
            seats=(),
            step=7,
            world_size=2,
            saves=SimpleNamespace(committed=5),
        )
        self.inbox: Any = SimpleNamespace(put="put")
        self.fleet: Any = SimpleNamespace(
            close=lambda *, kill: self.asked.append(("Fleet", "close", kill))
        )
        self.observed: dict[str, Any] = {}
        self.observers: Any = SimpleNamespace(
            past=lambda counted: self.observed.update(past=counted),
            add=lambda observer: self.observed.update(added=observer),
        )
        config = parse_config(
            {
                "source": "m-5",
                "output": "memory://b/more",
                "until_step": 9,
                "address": "head:6379",
            }
        )
        secret = "https://me:geheim1@host/m-5"  # as a program may have made it
        self.claim: Any = SimpleNamespace(
            output=open_location("memory://b/more"),
            config=config.model_copy(update={"source": secret}),
            lease=SimpleNamespace(holder=SimpleNamespace(name="me"), confirm=self._confirm),
            past=Past(),
            scheduler="scheduler",
            attempt=3,
            pass_on=lambda: self.asked.append(("Claim", "pass_on")),
        )

    def _confirm(self) -> None:
        self.asked.append(("lease", "confirm"))
        if self.confirms is not None:
            raise self.confirms

    def _maker(self, name: str) -> Any:
        def made(*given: Any) -> Any:
            self.made[name] = given
            return SimpleNamespace(
                close=lambda: self.asked.append((name, "close")),
                take_over=lambda *values: self.asked.append((name, "take_over", *values)),
            )

        return made

    def _loop(self, run: Any, *given: Any) -> Any:
        self.made["Loop"] = given

        def play(actions: Any) -> Any:
            self.asked.append(("Loop", "play", actions))
            if isinstance(self.ends, BaseException):
                raise self.ends
            return self.ends

        return SimpleNamespace(
            run=run,
            play=play,
            incidents=[{"worker": "w2", "kind": "died"}, {"kind": "driver"}],
            write_down=lambda event: self.asked.append(("Loop", "write_down", event)),
        )

    def attempt(self, **changes: Any) -> Attempt:
        values: dict[str, Any] = {
            "record": RECORD,
            "step_key": "global_step",
            "repairs": ("a repair",),
            "edits": ("an edit",),
            "loading": Loading(step=0),
            "start_step": 5,
            "until": 9,
            "label": "a0001-g0001/m-5",
            "parent": (1, 1),
            "files": None,
            "adopted": False,
            "batches_per_step": 2,
            "proof": None,
        }
        continuation = Continuation(**{**values, **changes})
        return Attempt(self.claim, continuation, self.run, self.fleet, self.observers, self.inbox)

    def of(self, part: str, *names: str) -> list[tuple[Any, ...]]:
        return [asked for asked in self.asked if asked[0] == part and asked[1] in names]

    def written(self) -> list[Any]:
        return [asked[2] for asked in self.of("Loop", "write_down")]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_attempt_hands_each_part_what_it_needs_and_takes_the_lease_over(bench: Bench) -> None:
    files: Any = SimpleNamespace()
    made = bench.attempt(files=files)
    claim = bench.claim
    assert bench.asked == [("Claim", "pass_on")]
    storage = made._storage_thread
    assert bench.made["StorageThread"] == (
        claim.output,
        claim.lease,
        claim.config,
        Saved("aa", "global_step", ("a repair",), ("an edit",), Loading(step=0)),
        (1, 1),
        "a0001-g0001/m-5",
        claim.past.trained_s,
        "put",
        "scheduler",
    )
    assert bench.made["Heartbeat"] == (claim.output, claim.lease, storage, "put", "scheduler")
    assert bench.made["Loop"] == (
        bench.fleet,
        storage,
        bench.observers,
        bench.inbox,
        3,
        files,
        "scheduler",
    )
    assert made._loop.checkpoint_label == "a0001-g0001/m-5"
    assert bench.observed["past"] is claim.past.counted
    before = frozen(claim.past.account)
    bench.observed["added"].event(Warned(reason="told").stamped(1.0, 3, 0.0).record())
    assert made._result(DONE).warnings == ("told",)
    assert frozen(claim.past.account) != before, "goodput counts from it"


def test_attempt_says_at_its_beginning_what_it_is_about_and_hides_what_is_secret(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OUTER_ATTEMPT, "2 of 3")
    bench.attempt(warnings=("the graph is old",), proof=DIFFERS).play(())
    began, *rest = bench.written()
    assert isinstance(began, AttemptBegan)
    assert "geheim1" not in str(began)
    versions = {name: version(name) for name in ("tfresume", "ray", "tensorflow")}
    assert began.versions == {**versions, "python": platform.python_version()}
    assert (began.holder, began.pid, began.host) == ("me", os.getpid(), socket.gethostname())
    assert began.source.endswith("@host/m-5")
    assert (began.address, began.start_step, began.until) == ("head:6379", 5, 9)
    assert (began.resumed_from, began.adopted) == ("a0001-g0001/m-5", False)
    assert (began.config["until_step"], began.config["source"]) == (9, began.source)
    assert (began.batches_per_step, began.outer_attempt) == (2, "2 of 3")
    assert began.proof == DIFFERS.model_dump()
    assert list(began.edits) == ["an edit"]
    assert rest == [Warned(reason="the graph is old"), Warned(reason=DIFFERS.told)]


def test_attempt_that_adopts_resumes_from_no_checkpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(OUTER_ATTEMPT, raising=False)
    equal = Proved(verdict="equal", told="it's equal")
    bench.attempt(adopted=True, proof=equal).play(())
    (began,) = bench.written()
    assert (began.resumed_from, began.adopted, began.outer_attempt) == (None, True, "")
    assert began.proof == equal.model_dump()
    bench.asked.clear()
    bench.attempt().play(())
    assert bench.written()[0].proof is None


FORM = act.Form(3, (), None, 7, 14)


@pytest.mark.parametrize(
    ("generation", "seats", "actions", "recorded"),
    [
        (2, ("w1",), (), True),
        (2, ("w1",), (act.AwaitEnd("w2"),), True),
        (2, ("w1",), (act.AwaitEnd("w2"), FORM), False),
        (0, ("w1",), (), False),
        (2, (), (), False),
    ],
)
def test_group_that_goes_on_under_another_drivers_number_is_recorded_before_it_does(
    bench: Bench, generation: int, seats: tuple[str, ...], actions: Any, recorded: bool
) -> None:
    bench.run.generation, bench.run.seats = generation, seats
    bench.attempt().play(actions)
    assert bool(bench.of("StorageThread", "take_over")) is recorded
    if recorded:
        names = [asked[:2] for asked in bench.asked]
        assert bench.of("StorageThread", "take_over")[0][2:] == (2, 7)
        assert names.index(("StorageThread", "take_over")) < names.index(("Loop", "play"))
    assert bench.of("Loop", "play")[0][2] == actions
    assert bench.made["NodeWatch"] == (bench.claim.config.workers, "put", "scheduler")
    assert bench.asked[-1] == ("NodeWatch", "close")


def test_result_says_how_it_ended_and_what_was_done(bench: Bench) -> None:
    made = bench.attempt()
    done = made.play(())
    assert (done.status, done.exit_code, done.reason) == ("done", 0, "all steps")
    assert (done.start_step, done.final_step, done.steps_done) == (5, 9, 4)
    assert done.checkpoint == "memory://b/more/a0001-g0001/m-5"
    assert (done.world_size, done.output, done.attempt) == (2, "memory://b/more", 3)
    assert done.incidents == (
        {"worker": "w2", "kind": "died", "logs": "tfresume logs memory://b/more --worker w2"},
        {"kind": "driver", "logs": "tfresume logs memory://b/more"},
    )
    assert done.goodput == bench.claim.past.account.goodput().as_dict()
    assert (done.error, tuple(done.warnings)) == (None, ())
    bench.ends = act.Finish(act.Outcome.FAILED, "no worker", None, error={"kind": "Other"})
    failed = made.play(())
    assert (failed.final_step, failed.steps_done, failed.error) == (7, 2, {"kind": "Other"})
    assert failed.exit_code == 1
    bench.ends = act.Finish(act.Outcome.FAILED, "it went back", 3)
    assert made.play(()).steps_done == 0


def test_second_interrupt_is_written_down_as_an_end_without_a_last_save(bench: Bench) -> None:
    bench.ends = Interrupted()
    ended = bench.attempt().play(())
    reason = "interrupted a second time: ended without a last save"
    assert bench.written()[-1] == RunEnded(
        outcome="stopped", reason=reason, step=7, checkpoint_step=5
    )
    assert (ended.status, ended.reason, ended.exit_code) == ("stopped", reason, 130)
    assert ended.final_step == 7
    assert bench.asked[-1] == ("NodeWatch", "close")


def closed(bench: Bench, error: BaseException | None = None) -> list[tuple[Any, ...]]:
    try:
        with bench.attempt() as made:
            made.play(())
            bench.asked.clear()
            if error is not None:
                raise error
    except KeyError:
        pass
    return bench.asked


GIVEN_BACK = [("Heartbeat", "close"), ("StorageThread", "close")]


def test_driver_that_ends_in_order_ends_its_workers_where_it_still_holds_the_run(
    bench: Bench,
) -> None:
    assert closed(bench) == [("lease", "confirm"), ("Fleet", "close", True), *GIVEN_BACK]


def test_driver_that_cannot_know_whether_it_holds_the_run_leaves_the_workers(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.confirms = StorageUnavailable("503")
    assert closed(bench) == [("lease", "confirm"), ("Fleet", "close", False), *GIVEN_BACK]
    assert [record.getMessage() for record in caplog.records] == [
        "the workers are left to end themselves: 503"
    ]


@pytest.mark.parametrize("how", ["fenced", "an error of its own"])
def test_driver_that_was_fenced_or_met_an_error_leaves_the_workers_to_its_successor(
    bench: Bench, how: str
) -> None:
    if how == "fenced":
        lost = LeaseLost("attempt 4 has it").as_dict()
        bench.ends = act.Finish(act.Outcome.FAILED, "lost", 7, error=lost)
    asked = closed(bench, None if how == "fenced" else KeyError("a bug"))
    assert asked == [("Fleet", "close", False), *GIVEN_BACK]
    bench.ends = act.Finish(act.Outcome.FAILED, "other", 7, error={"kind": "Other"})
    assert ("Fleet", "close", True) in closed(bench), "it failed in order"
