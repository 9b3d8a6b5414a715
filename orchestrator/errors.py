"""Which errors does tfresume raise on purpose, and what should the reader do about each?

Rule: every deliberate error names the thing (file, tensor, rank, step), the cause and the next step
to take. A foreign exception is translated once, at the edge of the room that met it (``raise ...
from error``). All of them survive pickling, since Ray carries them between processes.

::

    OrchestratorError
    ├── ConfigError             the command or its configuration is wrong; nothing was started
    │   │                       (exit code 2)
    │   ├── SourceError         the source is missing, unreadable or not what it claims to be
    │   ├── GraphRefused        the graph can't be resumed as asked; carries every problem found
    │   ├── OutputError         the output can't be written, or belongs to another source or driver
    │   │   └── AlreadyExists   what may be created once only was written by someone else
    │   └── PlacementError      the cluster can't place the workers that were asked for
    ├── RetryableError          infrastructure failed; the same action may work again
    │   ├── WorkerLost          a worker's process or node is gone, or it hangs
    │   ├── PeerLost            seen by a survivor: a step was abandoned since a peer is gone
    │   ├── Preempted           a planned loss: SIGTERM or a drain notice
    │   ├── CorruptState        a state that moved between workers arrived damaged
    │   ├── AddressTaken        a port that was reserved for a group is in use: reserve another
    │   ├── StorageUnavailable  the store refuses or doesn't answer
    │   └── ClusterUnavailable  Ray's cluster or its job server doesn't answer any more
    ├── EndOfData               the input is exhausted; the run ends with a last save, as it should
    └── FatalError              going on would do harm (exit code 1)
        ├── AnswerNotWritten    standard output can't be written to: its disk is full
        ├── CorruptCheckpoint   a checkpoint's bytes aren't what its index or manifest says
        ├── GraphMismatch       graph and checkpoint don't fit each other
        ├── LeaseLost           another driver has taken this run over
        ├── NonFinite           the state or the watched loss holds NaN or infinity
        ├── StateJumped         a variable or slot grew beyond measure against the last checkpoint
        ├── RecoveryExhausted   a retry budget is used up, or an error came back at the same step
        └── UserCodeError       the user's input function, feed or graph raised; has its traceback
            └── GroupDisagrees  what the workers computed has different shapes
"""

from __future__ import annotations

from typing import Any, Self


class OrchestratorError(Exception):
    """The root of all deliberate errors.

    Args:
        message: what happened, to what, and why; one sentence without a trailing period.
        remedy: the next step to take, in the imperative. Empty where there is none.
        details: plain data for ``--json`` (strings, numbers, lists, mappings).
    """

    def __init__(
        self, message: str, *, remedy: str = "", details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.remedy, self.details))

    def as_dict(self) -> dict[str, Any]:
        """The error as ``--json`` shows it: kind, message, remedy and details."""
        return {
            "kind": type(self).__name__,
            "message": self.message,
            "remedy": self.remedy,
            "details": self.details,
        }

    @classmethod
    def from_cause(cls, message: str, cause: BaseException, *, remedy: str = "") -> Self:
        """An error whose message ends in its cause's type and text."""
        text = str(cause).strip() or "no text"
        return cls(f"{message}: {type(cause).__name__}: {text}", remedy=remedy)


def _rebuild(
    kind: type[OrchestratorError], message: str, remedy: str, details: dict[str, Any]
) -> OrchestratorError:
    return kind(message, remedy=remedy, details=details)


class ConfigError(OrchestratorError):
    """The command or its configuration is wrong; nothing was started."""


class SourceError(ConfigError):
    """The source is missing, unreadable or not what it claims to be."""


class GraphRefused(ConfigError):
    """The graph can't be resumed as asked; ``details["problems"]`` lists every reason."""


class OutputError(ConfigError):
    """The output isn't writable, or belongs to another source or another driver."""


class AlreadyExists(OutputError):
    """An object that may be created once only is there already, written by someone else."""


class PlacementError(ConfigError):
    """The cluster can't place the workers that were asked for."""


class RetryableError(OrchestratorError):
    """Infrastructure failed; the same action may work again."""


class WorkerLost(RetryableError):
    """A worker's process or node is gone, or it hangs."""


class PeerLost(RetryableError):
    """Seen by a survivor: a step was abandoned since a peer is gone; the survivor's state is at its
    last finished step.
    """


class Preempted(RetryableError):
    """A planned loss: SIGTERM or a drain notice."""


class AddressTaken(RetryableError):
    """A port that was reserved for a group is in use; reserve another and form the group again."""


class CorruptState(RetryableError):
    """A state that moved between workers arrived damaged; it was not used."""


class StorageUnavailable(RetryableError):
    """The store refuses or doesn't answer."""


class EndOfData(OrchestratorError):
    """The input is exhausted: the step wasn't taken, and the run ends with a last save, as it
    should.
    """


class ClusterUnavailable(RetryableError):
    """Ray's cluster or its job server doesn't answer any more."""


class FatalError(OrchestratorError):
    """Going on would do harm."""


class AnswerNotWritten(FatalError):
    """Standard output can't be written to; nothing more is written there."""


class CorruptCheckpoint(FatalError):
    """A checkpoint's bytes aren't what its index or manifest says."""


class GraphMismatch(FatalError):
    """Graph and checkpoint don't fit each other."""


class LeaseLost(FatalError):
    """Another driver has taken this run over."""


class NonFinite(FatalError):
    """The state or the watched loss holds NaN or infinity."""


class StateJumped(FatalError):
    """A variable or slot grew by more than the stated factor against the last checkpoint."""


class RecoveryExhausted(FatalError):
    """A retry budget is used up, or the same error came back at the same step."""


class UserCodeError(FatalError):
    """The user's input function, feed or graph raised; ``details["traceback"]`` holds it."""


class GroupDisagrees(UserCodeError):
    """What the workers computed can't be added, since its shapes differ; nothing changed anywhere."""
