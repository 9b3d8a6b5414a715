"""The command ``evaluate``: one checkpoint now, or each of a run as it's committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from launch.commands.options import Looks
from launch.commands.run import Config, Run, or_crashed, tell_of_end
from launch.flags import RunFlags, pair, run_config
from launch.jobs.inside import is_job_server
from launch.terminal import EXIT_DONE, EXIT_FAILED, answer_console, guarded, print_json
from orchestrator.config import RunConfig
from orchestrator.errors import ConfigError

if TYPE_CHECKING:
    from orchestrator.driver.following import Following
    from orchestrator.driver.inference import NodeWish

WHAT = Group("What is evaluated", sort_key=5)


@Parameter(name="*")
@dataclass(frozen=True)
class EvaluateFlags:
    """What only an evaluation has."""

    fetch: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(),
            metavar="TENSOR",
            group=WHAT,
            help="Tensor of numbers to average; repeatable. Default: the graph's losses, else its likeliest prediction.",
        ),
    ] = None
    batches: Annotated[
        int,
        Parameter(
            group=WHAT,
            help="At most so many; 0: until the input ends. Arrays once, in their order.",
        ),
    ] = 0
    step: Annotated[
        int | None,
        Parameter(group=WHAT, help="The checkpoint of this global step. Default: the newest."),
    ] = None
    follow: Annotated[
        bool,
        Parameter(
            name=["--follow", "-f"],
            negative=(),
            show_default=False,
            group=WHAT,
            help="Evaluate each checkpoint once, as it's committed, until the run ends.",
        ),
    ] = False
    keep_best: Annotated[
        str | None,
        Parameter(
            metavar="METRIC:max|min",
            group=WHAT,
            help="With --follow: fetch METRIC too, and keep the best checkpoint besides the newest.",
        ),
    ] = None
    name: Annotated[
        str,
        Parameter(
            group=WHAT, help="With --follow: the evaluator's name; several may follow a run."
        ),
    ] = "eval"
    every_s: Annotated[
        float, Parameter(group=WHAT, help="With --follow: seconds between two looks at the run.")
    ] = 5.0
    on_resource: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(),
            metavar="NAME[=AMOUNT]",
            group=WHAT,
            help="Custom Ray resource that each worker takes, so that it's put on nodes that have it.",
        ),
    ] = None
    on_label: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(),
            metavar="NAME=VALUE",
            group=WHAT,
            help="Ray label of the nodes that the workers are put on.",
        ),
    ] = None


def evaluate(
    run: str | None = None,
    /,
    *,
    what: EvaluateFlags = EvaluateFlags(),
    flags: Run = RunFlags(),  # noqa: B008  frozen
    config: Config = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Evaluate a run's newest checkpoint, or with --follow each as it comes.

    Takes the input flags of `resume`. Prints for each fetched tensor the mean
    over its elements and over all batches, weighted by their rows. --follow
    writes results, TensorBoard events and the best checkpoint below the run's
    output, goes on after a loss without evaluating anything twice, and ends
    with the run. `--address http://HEAD:8265` submits it as a Ray job.

    For example:

        tfresume evaluate gs://b/more --array x:0=x.npy --array y:0=y.npy --batch-size 64
        tfresume evaluate gs://b/more --follow --input heldout.py:batches
            --fetch accuracy --keep-best accuracy:max
        tfresume evaluate gs://b/more --follow --input heldout.py:batches
            --address http://HEAD:8265 --on-label role=evaluator

    Args:
        run: A run's output URL; without --follow any source that `resume` takes.
    """
    checked = run_config(run, config, flags)
    place = _place(what, checked)
    asked = _following(what, checked, place) if what.follow else None
    if asked is None:
        _refuse_without_follow(what, checked)
    if is_job_server(checked.address):
        from launch.jobs.evaluation import submit_evaluation

        return submit_evaluation(checked, config, flags, what, looks)
    if asked is not None:
        return _supervised(checked, asked, looks)
    from launch.text.evaluation_text import evaluated_text
    from orchestrator.driver.evaluate import evaluate as measure

    found = measure(checked, what.fetch or (), step=what.step, batches=what.batches, place=place)
    if looks.json:
        print_json(found)
    else:
        answer_console().print(evaluated_text(found), markup=False)
    return EXIT_DONE


def _supervised(config: RunConfig, asked: Following, looks: Looks) -> int:
    """Following a run takes days: an evaluator that is killed is started again, as a driver is."""
    from launch.supervisor import supervise_evaluator

    def drive() -> int:
        return guarded(
            lambda: or_crashed(lambda: _follow(config, asked, looks)), as_json=looks.json
        )

    return supervise_evaluator(drive, gave_up=tell_of_end if looks.json else None)


def _follow(config: RunConfig, asked: Following, looks: Looks) -> int:
    from launch.text.evaluation_text import followed_text, result_line
    from orchestrator.driver.evaluator import follow

    def told(result: object, best: object) -> None:
        if not (looks.json or looks.quiet):
            answer_console().print(result_line(result, best), markup=False)  # type: ignore[arg-type]

    found = follow(config, asked, told=told)
    if looks.json:
        print_json(found)
    else:
        answer_console().print(followed_text(found), markup=False)
    return EXIT_DONE if found.well else EXIT_FAILED


def _following(what: EvaluateFlags, config: RunConfig, place: NodeWish) -> Following:
    from orchestrator.decide.evaluating import Goal
    from orchestrator.driver.following import Following

    if what.step is not None:
        raise ConfigError("--step and --follow exclude each other", remedy="Leave one out")
    if what.every_s <= 0:
        raise ConfigError("--every-s must be more than 0", remedy="Give seconds, such as 5")
    goal = Goal.parse(what.keep_best) if what.keep_best else None
    fetches = tuple(what.fetch or ())
    asked = Following(
        fetches, what.batches, place, goal, what.name, what.every_s, patience_s=config.wait_s
    )
    asked.check(config)
    return asked


def _refuse_without_follow(what: EvaluateFlags, config: RunConfig) -> None:
    from orchestrator.driver.inference import check_batches

    check_batches(what.batches)
    if what.keep_best:
        raise ConfigError("--keep-best needs --follow", remedy="Add --follow")
    if what.step is not None and config.from_step is not None:
        raise ConfigError("--step and --from-step name a checkpoint both", remedy="Leave one out")


def _place(what: EvaluateFlags, config: RunConfig) -> NodeWish:
    from orchestrator.driver.inference import NodeWish

    resources = dict(map(_amount, what.on_resource or ()))
    labels = dict(pair("--on-label", item) for item in what.on_label or ())
    if (resources or labels) and config.address is None:
        raise ConfigError(
            "--on-resource and --on-label choose a cluster's nodes, and no cluster is named",
            remedy="Add --address auto or HOST:PORT",
        )
    return NodeWish(resources, labels)


def _amount(text: str) -> tuple[str, float]:
    name, equals, amount = text.partition("=")
    try:
        return name, float(amount) if equals else 1.0
    except ValueError as error:
        raise ConfigError(
            f"--on-resource {text!r} isn't of the form NAME=AMOUNT",
            remedy="Write --on-resource evaluator or --on-resource evaluator=0.5",
        ) from error
