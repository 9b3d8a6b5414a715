"""What is an evaluator asked to do, and how does following a run end?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from orchestrator.config import RunConfig
from orchestrator.decide.evaluating import Goal, tensor_name
from orchestrator.driver.inference import NodeWish, check_batches
from orchestrator.errors import ConfigError
from orchestrator.store.run.evaluations import Best, Evaluation, check_name


@dataclass(frozen=True)
class Followed:
    """How following a run ended.

    Attributes:
        name: the evaluator's.
        evaluations: every result of this evaluator, oldest checkpoint first, those of its earlier
            lives among them.
        best: the best checkpoint, None where none was asked for or none has a finite number.
        skipped: label to reason, for checkpoints that couldn't be evaluated.
        well: the run has ended in order; else its driver is gone.
        reason: why it's over.
    """

    name: str
    evaluations: tuple[Evaluation, ...]
    best: Best | None
    skipped: dict[str, str]
    well: bool
    reason: str


@dataclass(frozen=True)
class Following:
    """What an evaluator is to do.

    Attributes:
        fetches, batches, place: as ``evaluate`` takes them.
        keep_best: keep the best checkpoint besides the newest.
        name: of the evaluator; several with different names may follow one run.
        every_s: seconds between two looks at the run.
        patience_s: longest time without a living driver, and without an answer of the store.
    """

    fetches: Sequence[str] = ()
    batches: int = 0
    place: NodeWish = field(default_factory=NodeWish)
    keep_best: Goal | None = None
    name: str = "eval"
    every_s: float = 5.0
    patience_s: float = 1800.0

    @property
    def besides(self) -> tuple[str, ...]:
        """What is fetched besides ``fetches``, or what stands for none: what the best checkpoint is
        the best by.
        """
        return () if self.keep_best is None else (self.keep_best.metric,)

    def has_all(self, metrics: Collection[str]) -> bool:
        """Whether a result with these metrics answers all that is asked for by name."""
        named = {tensor_name(name) for name in (*self.fetches, *self.besides)}
        return named <= set(metrics)

    def check(self, config: RunConfig) -> None:
        """Before anything begins. Raises ConfigError: the name can't be a directory's, or the
        configuration names one checkpoint.
        """
        check_name(self.name)
        check_batches(self.batches)
        if config.from_step is not None:
            raise ConfigError(
                "--from-step names one checkpoint, and --follow evaluates each",
                remedy="Leave one out",
            )
