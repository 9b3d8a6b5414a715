"""Whose fault is it that a run of the graph ended in an error?

Rule: an error that a collective reports, a deadline, or a broken connection is a lost peer: nothing
changed, and the step can be taken again in a new group. Every other error was raised by an
operation of the user's graph on this rank, with the user's data. TensorFlow reports the first error
of a run, so a user's error isn't hidden by the collectives that it takes down.
"""

from __future__ import annotations

import traceback

from orchestrator.errors import OrchestratorError, PeerLost, UserCodeError
from orchestrator.training.engine.tensorflow import tf

ABORTED_COLLECTIVE = "Collective ops is aborted"
"""How TensorFlow's text begins for whatever ended a collective (2.21); the error's own kind is that
of its cause, so the text alone tells.
"""
CONNECTION_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
)


def step_error(error: BaseException, *, rank: int, step: int, shared: bool) -> OrchestratorError:
    """The project's error for what ``session.run`` raised in a step.

    Args:
        error: what was raised.
        rank, step: this rank and the last step that it has finished.
        shared: the group has other members.
    """
    if shared and is_peer_error(error):
        return PeerLost(
            f"rank {rank}: the step after {step} was abandoned since a peer is gone or doesn't answer ({cause(error)})",
            remedy="Nothing changed on this rank; form a new group and take the step again",
            details={"rank": rank, "step": step},
        )
    return user_error(
        error, f"rank {rank}: the step after {step} failed in the graph", rank=rank, step=step
    )


def is_peer_error(error: BaseException) -> bool:
    """Whether a lost or waiting peer, not an operation of the user's graph, ended the run."""
    if isinstance(error, CONNECTION_ERRORS) or ABORTED_COLLECTIVE in str(error):
        return True
    op = getattr(error, "op", None)
    return op is not None and op.type.startswith("Collective")


def user_error(error: BaseException, what: str, **details: object) -> UserCodeError:
    """An error of the user's graph, feed or function, with its traceback."""
    out_of_memory = isinstance(error, tf.errors.ResourceExhaustedError)
    return UserCodeError(
        f"{what}: {cause(error)}",
        remedy="Use a smaller batch, or workers with more memory"
        if out_of_memory
        else "Fix the graph's inputs or the input function; the same step would fail again",
        details={**details, "traceback": "".join(traceback.format_exception(error))},
    )


def cause(error: BaseException) -> str:
    """The error's kind and its telling line: TensorFlow's text carries the graph's construction
    tracebacks around it.
    """
    node = getattr(error, "node_def", None)
    lines = [line.strip() for line in str(getattr(error, "message", None) or error).splitlines()]
    noise = (
        "Graph execution error",
        "Detected at node",
        "File ",
        "Node:",
        "Original stack trace",
        "From /job",
        "[[{{node",
    )
    telling = [line for line in lines if line and not line.startswith(noise)]
    where = f" in {node.name}" if node is not None else ""
    return f"{type(error).__name__}{where}: {telling[0] if telling else 'no text'}"
