"""Journals as a driver writes them, for everything that reads one."""

from __future__ import annotations

from typing import Any

EPOCH = 1_790_000_000.0
Event = dict[str, Any]


def event(at_s: float, kind: str, attempt: int = 1, /, **fields: Any) -> Event:
    """One event, ``at_s`` seconds after the journal's beginning."""
    return {"event": kind, "at": EPOCH + at_s, "attempt": attempt, **fields}


def beginning(attempt: int = 1, at_s: float = 0.0, **fields: Any) -> list[Event]:
    """A driver starts two workers and a standby, forms generation 1 and trains."""
    config = {
        "source": "gs://b/run",
        "output": "gs://b/more",
        "save_steps": 100,
        "workers": {"count": 2, "standby": 1},
    }
    versions = {"tfresume": "0.1.0", "tensorflow": "2.21.0", "ray": "2.60.0", "python": "3.11.2"}
    return [
        event(
            at_s,
            "attempt",
            attempt,
            holder="ann@head pid 4711",
            pid=4711,
            host="head",
            source="gs://b/run/model.ckpt-500",
            start_step=500,
            until=2000,
            config=config,
            versions=versions,
            **fields,
        ),
        *(
            event(at_s + 0.1, "worker_start", attempt, worker=worker, standby=worker == "w0003")
            for worker in WORKERS
        ),
        event(
            at_s + 4,
            "staging",
            attempt,
            worker="w0001",
            node="node-a",
            seconds=2.0,
        ),
        *(
            event(
                at_s + 5 + rank / 10,
                "worker_warm",
                attempt,
                worker=worker,
                node=f"node-{'ab'[rank % 2]}",
                pid=100 + rank,
                seconds=5.0,
            )
            for rank, worker in enumerate(WORKERS)
        ),
        event(
            at_s + 6,
            "generation",
            attempt,
            generation=1,
            step=500,
            world_size=2,
            workers=["w0001", "w0002"],
            state_from="checkpoint",
        ),
        event(at_s + 6.5, "training", attempt, generation=1, step=500, world_size=2),
    ]


WORKERS = ("w0001", "w0002", "w0003")


def progress(at_s: float, step: int, attempt: int = 1, **fields: Any) -> Event:
    """A progress event with a plausible loss."""
    told = {
        "generation": 1,
        "steps_per_s": 20.0,
        "loss": round(2.0 * 0.999**step, 6),
        "world_size": 2,
        "until": 2000,
    }
    return event(at_s, "progress", attempt, step=step, **(told | fields))


def loss_of_rank_1(at_s: float = 30.0) -> list[Event]:
    """Rank 1 is killed, the standby takes its rank, and 0.4 s later the group has taken a useful
    step.
    """
    return [
        event(
            at_s,
            "worker_lost",
            worker="w0002",
            rank=1,
            node="node-b",
            pid=101,
            cause="died",
            reason="SIGKILL",
            step=960,
        ),
        event(
            at_s + 0.1,
            "generation",
            generation=2,
            step=960,
            world_size=2,
            workers=["w0001", "w0003"],
            donor="w0001",
            state_from="donor",
        ),
        event(at_s + 0.3, "training", generation=2, step=960, world_size=2),
        event(
            at_s + 0.4,
            "incident",
            kind="died",
            rank=1,
            node="node-b",
            worker="w0002",
            detected_s=0.012,
            recovered_s=0.41,
            steps_redone=0,
            action="went on with 2 workers from the live state",
            reason="SIGKILL",
            generation=2,
            step=961,
            world_size_before=2,
            world_size=2,
            exit_code=-9,
            losses=2,
            losses_allowed=60,
        ),
    ]


def save(at_s: float, step: int, **fields: Any) -> list[Event]:
    """A save that is agreed and, three seconds later, committed."""
    label = f"a0001-g0002/model.ckpt-{step}"
    told = {
        "generation": 2,
        "checkpoint": label,
        "size_bytes": 480_000_000,
        "stall_s": 0.05,
        "commit_s": 0.03,
    }
    return [
        event(at_s, "save_agreed", step=step, generation=2, writer="w0001"),
        event(at_s + 3, "save_committed", step=step, **(told | fields)),
    ]


def finish(at_s: float, step: int, attempt: int = 1, outcome: str = "done", **fields: Any) -> Event:
    """The run's end."""
    return event(
        at_s,
        "finish",
        attempt,
        outcome=outcome,
        reason=f"step {step} is reached",
        step=step,
        checkpoint_step=step,
        **fields,
    )


def step_times(at_s: float, step: int) -> Event:
    """What the two ranks' steps spent their time on: rank 1 waits for its input."""
    shared = {"compute": 0.02, "apply": 0.004, "save": 0.0005, "other": 0.0005, "all": 0.05}
    ranks = {
        "0": {**shared, "input": 0.001, "exchange": 0.024},
        "1": {**shared, "input": 0.022, "exchange": 0.003},
    }
    return event(at_s, "step_times", generation=2, step=step, ranks=ranks)


def whole_run() -> list[Event]:
    """A run from step 500 to 2000 with one loss, two saves and an orderly end."""
    steps = [progress(7 + 5 * index, 510 + 90 * index) for index in range(16)]
    events = [
        *beginning(),
        *steps,
        *loss_of_rank_1(),
        *save(40, 1100),
        *save(85, 2000),
        progress(84, 2000),
        step_times(84, 2000),
        finish(89, 2000),
    ]
    return sorted(events, key=lambda item: item["at"])
