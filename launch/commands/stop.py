"""The command ``stop``: a run saves and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json

if TYPE_CHECKING:
    from launch.stop import Stopped

_SAID = {
    "stopped": "stopped",
    "asked": "asked to stop; it will after its last save",
    "not running": "nothing runs there",
    "dead": "its driver is gone already; the same `tfresume resume` goes on from the newest checkpoint",
}


def stop(
    run: str,
    /,
    *,
    now: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Stop without a last save.")
    ] = False,
    timeout_s: Annotated[
        float,
        Parameter(
            validator=Number(gte=0),
            help="Longest time to wait for the end, in seconds; 0 asks and returns at once.",
        ),
    ] = 300.0,
    address: Annotated[
        str | None,
        Parameter(
            help="The run's Ray cluster or job server: also end workers that a dead driver left there."
        ),
    ] = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Ask a run to save and stop, and wait until it has.

    The request goes through the output URL: it works from anywhere, also for
    runs on clusters that this machine can't reach.

    For example:

        tfresume stop gs://b/more
        tfresume stop gs://b/more --now --timeout-s 30
        tfresume stop gs://b/more --address http://HEAD:8265

    Args:
        run: A run's output URL.
    """
    from launch.jobs.inside import is_job_server, run_inside
    from launch.stop import end_workers
    from launch.stop import stop as ask

    if address is not None and is_job_server(address):
        words = ["stop", run, *(["--now"] if now else []), "--timeout-s", f"{timeout_s:g}"]
        return run_inside(address, words, as_json=looks.json)
    outcome = ask(run, mode="now" if now else "save", timeout_s=timeout_s)
    if address is not None and outcome.state != "asked":
        outcome = end_workers(outcome, run, address)
    if looks.json:
        print_json(outcome)
    else:
        answer_console().print(
            f"{outcome.run}: {_SAID[outcome.state]}{_workers(outcome, address)}", markup=False
        )
    return EXIT_DONE


def _workers(outcome: Stopped, address: str | None) -> str:
    """What became of the workers, where that isn't said by the run's own end."""
    if outcome.workers_ended:
        return f"; {outcome.workers_ended} worker{'s' if outcome.workers_ended > 1 else ''} ended"
    if outcome.state == "dead" and address is None:
        return "\nWorkers that it left end themselves within orphan_timeout_s (120 s); give --address to end them now"
    return ""
