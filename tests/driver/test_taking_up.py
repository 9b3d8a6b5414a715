"""Once the lease is held: is what is started or gone on with made of what is known, in its order?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.decide.events import Found
from orchestrator.driver import taking_up
from orchestrator.driver.attempt import Continuation
from orchestrator.driver.startup import StartPoint
from orchestrator.driver.taking_up import begin, tidy
from orchestrator.errors import LeaseLost, OutputError
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import Proved, RunRecord
from orchestrator.workers.namespace import namespace_of
from orchestrator.workers.orders import CheckpointFiles

FILES = CheckpointFiles(5, 10, "files", ())
RECORD = RunRecord(source="first", fingerprint="aa", name="m", started_step=2, config={"a": 1})
EQUAL = Proved(verdict="equal", told="it's equal")
OUTPUT = open_location("memory://taking-up/more")
SPACE = namespace_of(OUTPUT.url)


class Parts:
    """All that taking up asks, each part of which says what it was given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {
            "create_run_record": RECORD,
            "files_of": FILES,
            "living_workers": ("w4",),
            "Fleet": SimpleNamespace(adopt=self._named("adopt")),
            "Placement": "placement",
            "scale_of": "sum",
            "weight_of": "w:0",
            "weaker_promise": "",
            "surplus_note": "a surplus",
            "source_loading": "as it was",
            "read_run_record": RECORD,
            "prepared": None,
            "ended_before_it_began": "nothing to do",
            "policy_of": "policy",
            "step_key_of": "step",
            "setup_of": "setup",
            "refuse_others_workers": None,
            "take_over": None,
            "read_pointer": "a/m-5",
            "reserved": 0,
            "end_run": None,
            "set_pointer": None,
        }
        for name in self.answers:
            patch.setattr(taking_up, name, self._named(name))
        for name in ("begin", "adopt"):
            self.answers[f"machine.{name}"] = (f"{name}'s run", (f"{name}'s action",))
            patch.setattr(taking_up.machine, name, self._named(f"machine.{name}"))  # type: ignore[attr-defined]
        patch.setattr(taking_up, "Attempt", self._attempt)
        self.past: Any = SimpleNamespace(
            damaged=("a damaged part",),
            budgets=self._named("budgets"),
            last_generation=6,
            next_worker=self._named("next_worker"),
            left_behind=self._named("left_behind"),
            last_config={"input": "mine"},
            places={"p": ("node", ())},
            newest_step=8,
            newest_label="a0001-g0001/m-8",
            rolled_back=(9, 1),
        )
        self.answers |= {"budgets": "budgets", "next_worker": 5, "left_behind": "left"}
        config = {"source": "s", "output": OUTPUT.url, "until_step": 90, "max_losses_per_hour": 7}
        self.claim: Any = SimpleNamespace(
            config=parse_config(config),
            output=OUTPUT,
            past=self.past,
            attempt=1,
            scheduler=SimpleNamespace(monotonic=lambda: 50.0, unix=lambda: 1e9),
            lease=SimpleNamespace(confirm=self._named("confirm"), is_fresh=True),
        )
        self.answers["confirm"] = None

    def _named(self, name: str) -> Any:
        def called(*given: Any, **options: Any) -> Any:
            self.asked.append((name, *given, *options.items()))
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return called

    def _attempt(self, claim: Any, continuation: Continuation, *given: Any) -> Any:
        self.asked.append(("Attempt", claim, *given))
        self.continuation = continuation
        return _Entered(self)

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [asked[1:] for asked in self.asked if asked[0] == name]

    def order(self, *names: str) -> list[str]:
        return [asked[0] for asked in self.asked if asked[0] in names]


class _Entered:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.parts.asked.append(("left",))

    def play(self, actions: Any) -> Any:
        self.parts.asked.append(("play", actions))
        return "the result"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


def ready(own_label: str | None = "a0001-g0001/m-5", **graph: Any) -> Any:
    tables: Any = graph.pop("tables", SimpleNamespace(names=("emb",), copies=2))
    return SimpleNamespace(
        start=SimpleNamespace(
            source=SimpleNamespace(url="gs://s/m-5", name="m", label="m-5", links=()),
            fingerprint="aa",
            own_label=own_label,
            parent=(1, 1),
            step=5,
            until=90,
            warnings=("of the start",),
        ),
        plan=SimpleNamespace(
            step=5,
            step_key="step",
            is_completed=graph.pop("is_completed", False),
            warnings=("of the plan",),
            graph=SimpleNamespace(
                repairs=("repair",), edits=("edit",), loading="as planned", tables=tables
            ),
        ),
        policy="policy",
        slots=SimpleNamespace(count=4, first=2),
    )


OBSERVERS: Any = "observers"
INBOX: Any = SimpleNamespace(put="put")


def begun(parts: Parts, what: Any, record: Any = None, proof: Any = None) -> Any:
    return begin(parts.claim, what, record, proof, OBSERVERS, INBOX)


class Proof:
    def record(self) -> Proved:
        return EQUAL


def test_first_start_records_what_the_run_is_and_starts_workers_from_the_checkpoint(
    parts: Parts,
) -> None:
    what = ready()
    assert begun(parts, what, None, Proof()) == "the result"
    ((output, record),) = parts.of("create_run_record")
    assert output is OUTPUT
    assert record == RunRecord(
        source="gs://s/m-5",
        fingerprint="aa",
        name="m",
        started_step=5,
        config=parts.claim.config.model_dump(mode="json"),
        created=1e9,
        batches_per_step=2,
        gradient_scale="sum",
        weight_by="w:0",
        shard_tables=("emb",),
        table_copies=2,
        proof=EQUAL,
        run_id=record.run_id,
    )
    assert parts.of("scale_of") == parts.of("weight_of") == [(parts.claim.config, None)]
    assert not parts.of("read_run_record"), "nobody was there before"
    assert parts.order("living_workers", "confirm", "end_run", "Fleet", "Attempt", "play") == [
        *("living_workers", "confirm", "end_run", "Fleet", "Attempt", "play")
    ]
    assert parts.of("living_workers") == [(SPACE,)]
    assert parts.of("end_run") == [(OUTPUT.url,)]
    assert parts.of("files_of") == [(what.start.source, 5)]
    assert parts.of("budgets") == [(7, 50.0, 1e9)]
    assert parts.of("next_worker") == [(("w4",),)]
    assert parts.of("left_behind") == [(1e9,)]
    assert parts.of("machine.begin") == [
        (
            *("policy", Found(5, 10, label="m-5"), 5, "budgets", 6, 50.0, 5, "left"),
            ("changes", False),
        )
    ]
    fleet = parts.answers["Fleet"]
    assert parts.of("Attempt") == [(parts.claim, "begin's run", fleet, OBSERVERS, INBOX)]
    assert parts.of("play") == [(("begin's action",),)]
    assert parts.asked[-1] == ("left",)
    assert parts.continuation == Continuation(
        record=RECORD,
        step_key="step",
        repairs=("repair",),
        edits=("edit",),
        loading="as it was",  # type: ignore[arg-type]
        start_step=5,
        until=90,
        label="a0001-g0001/m-5",
        parent=(1, 1),
        files=FILES,
        adopted=False,
        batches_per_step=4,
        proof=EQUAL,
        warnings=("a damaged part", "of the start", "of the plan", "a surplus"),
    )
    assert parts.of("source_loading") == [("as planned", RECORD.config)]
    assert parts.of("weaker_promise") == [(OUTPUT,)]
    assert parts.of("surplus_note") == [(parts.claim.config, what.slots)]


def test_start_from_the_source_reads_it_as_the_plan_says(parts: Parts) -> None:
    standing = RECORD.model_copy(update={"proof": EQUAL})
    parts.answers["create_run_record"] = standing
    what = ready(None)
    what.start.source.links = ("a link",)
    begun(parts, what, RECORD)
    ((_, record),) = parts.of("create_run_record")
    assert (record.source, record.proof) == ("first", None)
    assert parts.of("scale_of") == parts.of("weight_of") == [(parts.claim.config, RECORD)]
    ((_, _, saved, *_, changes),) = parts.of("machine.begin")
    assert saved is None
    assert changes == ("changes", True)
    goes_on = parts.continuation
    assert goes_on.files is not None
    assert goes_on.files.of_source
    told: Any = goes_on.loading
    assert (told, goes_on.label) == ("as planned", None)
    assert goes_on.proof == EQUAL, "the one that stands in the record"


@pytest.mark.parametrize(
    ("is_completed", "tables", "one_loads"),
    [(True, (), True), (False, (), False), (True, ("emb",), False)],
)
def test_fleet_commands_the_workers_of_this_output_for_as_long_as_it_holds_it(
    parts: Parts, is_completed: bool, tables: tuple[str, ...], one_loads: bool
) -> None:
    class Tables(tuple[str, ...]):
        names, copies = tables, 1

    what = ready(is_completed=is_completed, tables=Tables(tables))
    begun(parts, what)
    assert parts.of("Placement") == [(SPACE, parts.claim.config.workers)]
    ((space, attempt, placement, put, setup, is_fresh, loads, scheduler),) = parts.of("Fleet")
    assert (space, attempt, placement, put) == (SPACE, 1, "placement", "put")
    assert bool(loads) is one_loads
    assert scheduler is parts.claim.scheduler
    assert setup() == "setup"
    ((config, graph, output, record, files, slots, secret),) = parts.of("setup_of")
    assert (config, graph, output) == (parts.claim.config, what.plan.graph, OUTPUT)
    assert (record, files, slots) == (RECORD, FILES, what.slots)
    assert len(secret) == 32
    assert is_fresh()
    parts.claim.lease.is_fresh = False
    assert not is_fresh()
    begun(parts, what)
    parts.of("Fleet")[1][4]()
    assert parts.of("setup_of")[1][-1] != secret, "each life of the group has its own"


def test_driver_that_slept_ends_nobodys_workers(parts: Parts) -> None:
    parts.answers["confirm"] = LeaseLost("attempt 2 has it")
    with pytest.raises(LeaseLost):
        begun(parts, ready())
    assert not parts.of("end_run")


def living(**about: Any) -> Any:
    graph = SimpleNamespace(tables=(), repairs=("r",), edits=("e",), loading="theirs")
    options = SimpleNamespace(exchange="grpc", batches_per_step=3)
    values = {
        "setup": SimpleNamespace(graph=graph, options=options),
        "reports": tuple(SimpleNamespace(step=step) for step in (7, None, 9)),
        "names": ("w1", "w2"),
    }
    return SimpleNamespace(**{**values, **about})


def test_living_workers_are_gone_on_with_as_they_are(parts: Parts) -> None:
    parts.claim.attempt = 2
    found = parts.answers["take_over"] = living()
    assert begun(parts, None) == "the result"
    assert parts.of("read_run_record") == [(OUTPUT,)]
    assert parts.of("refuse_others_workers") == [
        (parts.claim.config, OUTPUT, RECORD, {"input": "mine"})
    ]
    assert parts.of("take_over") == [(SPACE, 2, parts.claim.lease.confirm)]
    assert parts.of("adopt") == [(found, parts.past.places)]
    assert parts.of("policy_of") == [(parts.claim.config, found.setup.graph, 90, 3)]
    assert parts.of("budgets") == [(7, 50.0, 1e9)]
    assert parts.of("next_worker") == [(("w1", "w2"),)]
    assert parts.of("left_behind") == [(1e9,)]
    assert parts.of("machine.adopt") == [
        (
            *("policy", found.reports, 8, "budgets", 6, 5, 50.0, (9, 1), "left"),
            ("changes", False),
        )
    ]
    ((*_, setup, _, loads, _),) = parts.of("Fleet")
    assert (setup(), loads) == (found.setup, True)
    assert parts.of("living_workers") == [(SPACE,)]
    fleet = parts.answers["Fleet"]
    assert parts.of("Attempt") == [(parts.claim, "adopt's run", fleet, OBSERVERS, INBOX)]
    assert parts.of("play") == [(("adopt's action",),)]
    assert parts.continuation == Continuation(
        record=RECORD,
        step_key="step",
        repairs=("r",),
        edits=("e",),
        loading="as it was",  # type: ignore[arg-type]
        start_step=9,
        until=90,
        label="a0001-g0001/m-8",
        parent=None,
        files=None,
        adopted=True,
        batches_per_step=3,
        proof=None,
        warnings=("a damaged part",),
    )
    assert parts.of("source_loading") == [("theirs", RECORD.config)]
    assert parts.of("step_key_of") == [(found.setup.graph,)]
    assert not parts.of("end_run")


def test_workers_that_know_no_step_go_on_from_the_runs_first(parts: Parts) -> None:
    parts.claim.attempt = 2
    parts.past.newest_label = "a0001-g0001/m-8.changed"
    found = parts.answers["take_over"] = living(reports=(SimpleNamespace(step=None),))
    found.setup.options.exchange = "nccl"
    parts.answers["read_run_record"] = RECORD.model_copy(update={"proof": EQUAL})
    steps = {"source": "s", "output": OUTPUT.url, "steps": 20}
    parts.claim.config = parse_config(steps)
    found.setup.graph.tables = ("emb",)
    begun(parts, ready())
    assert (parts.continuation.start_step, parts.continuation.until) == (2, 22)
    assert parts.continuation.proof == EQUAL
    assert parts.continuation.batches_per_step is None
    assert parts.of("policy_of")[0][-1] is None
    assert parts.of("machine.adopt")[0][-1] == ("changes", True)
    assert parts.of("Fleet")[0][6] is False
    parts.past.newest_label = None
    begun(parts, ready())
    assert parts.of("machine.adopt")[1][-1] == ("changes", False)
    assert parts.continuation.label is None


@pytest.mark.parametrize("nobody", ["answers", "lives", "has a record"])
def test_start_is_looked_at_again_where_nobody_is_gone_on_with(parts: Parts, nobody: str) -> None:
    """Another driver may have saved something until the lease was taken."""
    parts.claim.attempt = 2
    parts.answers["take_over"] = living(setup=None)
    if nobody == "lives":
        parts.answers["living_workers"] = ()
    if nobody == "has a record":
        parts.answers["read_run_record"] = None
    before, after = ready(), ready("a0001-g0001/m-8")
    parts.answers["prepared"] = after
    assert begun(parts, before) == "the result"
    record = None if nobody == "has a record" else RECORD
    assert parts.of("prepared") == [(parts.claim.config, OUTPUT, record, before)]
    assert bool(parts.of("take_over")) is (nobody == "answers")
    assert parts.continuation.label == "a0001-g0001/m-8"


def test_run_that_is_done_by_now_is_tidied_and_not_begun(parts: Parts) -> None:
    parts.claim.attempt = 2
    parts.answers["living_workers"] = ()
    done = StartPoint(*((None,) * 9))  # type: ignore[arg-type]
    parts.answers["prepared"] = done
    assert begun(parts, ready()) == "nothing to do"
    assert parts.order("confirm", "end_run", "set_pointer") == ["confirm", "end_run", "set_pointer"]
    assert parts.of("end_run") == [(OUTPUT.url,)]
    assert parts.of("set_pointer") == [(OUTPUT, ("lease", parts.claim.lease))]
    assert parts.of("ended_before_it_began") == [(OUTPUT.shown, done)]
    assert not parts.of("Attempt")


class Held:
    def __init__(self, claim: Any) -> None:
        self.claim = claim

    def __enter__(self) -> Any:
        return self.claim

    def __exit__(self, *_: Any) -> None:
        """The lease is given up."""


@pytest.mark.parametrize(
    ("places", "label", "tidied"),
    [(0, "a/m-5", False), (1, "a/m-5", True), (0, "a/m-6", True), (0, None, True)],
)
def test_run_that_was_done_is_tidied_where_something_of_it_is_left(
    parts: Parts, places: int, label: str | None, tidied: bool
) -> None:
    parts.answers["reserved"] = places
    tidy(lambda: Held(parts.claim), OUTPUT, label)  # type: ignore[arg-type,return-value]
    assert parts.of("reserved") == [(SPACE,)]
    assert parts.order("confirm", "end_run", "set_pointer") == (
        ["confirm", "end_run", "set_pointer"] if tidied else []
    )
    if tidied:
        assert parts.of("end_run") == [(OUTPUT.url,)]
        assert parts.of("set_pointer") == [(OUTPUT, ("lease", parts.claim.lease))]
    if places or label == "a/m-5":
        return
    assert parts.of("read_pointer") == [(OUTPUT,)]


def test_run_that_somebody_holds_is_left_and_that_is_told(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses() -> Any:
        raise OutputError("attempt 1 lives")

    tidy(refuses, OUTPUT, "a/m-6")
    assert [record.getMessage() for record in caplog.records] == [
        f"what the last driver of {OUTPUT.shown} left stays: attempt 1 lives"
    ]
