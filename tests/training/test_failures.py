"""Is it told apart whose fault an error of a run is?"""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import PeerLost, UserCodeError

pytestmark = pytest.mark.tf

ABORTED = "Collective ops is aborted by: Socket closed\nAdditional GRPC error information from remote target /job:worker/task:1"


class Op:
    """What an OpError says of the operation that failed."""

    def __init__(self, type_: str) -> None:
        self.type = type_
        self.name = "there"
        self.traceback: list[str] = []
        self._original_op = None


def error(kind: str, message: str, op: str | None = "MatMul") -> Any:
    import tensorflow

    return getattr(tensorflow.errors, kind)(None, Op(op) if op else None, message)


@pytest.mark.parametrize(
    ("kind", "message", "op"),
    [
        ("UnavailableError", ABORTED, "CollectiveReduceV2"),
        ("InternalError", ABORTED, "CollectiveReduceV2"),
        # a peer's own error, as the collectives hand it on
        ("InvalidArgumentError", ABORTED, "MatMul"),
        ("DeadlineExceededError", "Operation timed out.", None),
        ("AbortedError", "Cleanup 123", None),
        (
            "InternalError",
            "joining a group with size3, but that group has size 2",
            "CollectiveReduceV2",
        ),
        ("CancelledError", "[_Derived_]Cancelled", "CollectiveGatherV2"),
    ],
)
def test_error_of_a_collective_or_a_connection_is_a_lost_peer(
    kind: str, message: str, op: str | None
) -> None:
    from orchestrator.training.engine.failures import step_error

    told = step_error(error(kind, message, op), rank=1, step=7, shared=True)
    assert isinstance(told, PeerLost)
    assert told.details == {"rank": 1, "step": 7}


@pytest.mark.parametrize(
    ("kind", "message", "shared"),
    [
        ("InvalidArgumentError", "logits and labels must have the same first dimension", True),
        ("ResourceExhaustedError", "OOM when allocating tensor with shape[9999999]", True),
        ("OutOfRangeError", "End of sequence", True),
        ("ValueError", "Cannot feed value of shape (2, 2)", True),
        ("DeadlineExceededError", "a queue inside the graph", False),
        ("UnavailableError", "the graph's own remote file", False),
    ],
)
def test_error_of_the_graph_is_the_users_with_its_traceback(
    kind: str, message: str, shared: bool
) -> None:
    from orchestrator.training.engine.failures import step_error

    raised = ValueError(message) if kind == "ValueError" else error(kind, message)
    told = step_error(raised, rank=0, step=3, shared=shared)
    assert isinstance(told, UserCodeError)
    assert type(raised).__name__ in told.details["traceback"]
    assert "the step after 3" in told.message


def test_error_without_room_in_memory_says_what_helps() -> None:
    from orchestrator.training.engine.failures import step_error

    told = step_error(error("ResourceExhaustedError", "OOM"), rank=0, step=3, shared=True)
    assert "smaller batch" in told.remedy


def test_cause_is_the_telling_line_without_construction_tracebacks() -> None:
    from orchestrator.training.engine.failures import cause

    text = (
        "Graph execution error:\n\nDetected at node 'a' defined at (most recent call last):\n"
        "    File \"x.py\", line 1, in <module>\nNode: 'a'\nlabels out of range\n\t [[{{node a}}]]\n"
    )
    assert cause(error("InvalidArgumentError", text)) == "InvalidArgumentError: labels out of range"
