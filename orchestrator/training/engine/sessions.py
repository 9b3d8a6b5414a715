"""Where does the graph run?

Rule: in one plain session of this process, for good. Groups come and go around it, so no re-form
pays for a session or for the variables in it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.training.engine.gpu import devices_are_final
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.engine.session_config import session_config
from orchestrator.training.engine.tensorflow import tf, v1

NODE_IN_TEXT = re.compile(r"\[\[\{\{node (\S+?)\}\}")


class LiveSession:
    """A session of this process's own.

    Args:
        graph: the imported TensorFlow graph.
        options: devices and threads.
        target: a server of this process to go through, ``""`` for none.
        config: instead of the one that follows from ``options``.

    Attributes:
        session: TensorFlow's session; its variables aren't set until the caller assigns them.
    """

    def __init__(
        self, graph: Any, options: TrainingOptions, *, target: str = "", config: Any = None
    ) -> None:
        devices_are_final()
        self.session: Any = v1.Session(
            target, graph=graph, config=config or session_config(options)
        )
        self._calls: dict[tuple[tuple[str, ...], ...], Any] = {}

    def run(
        self,
        fetches: Any,
        feeds: Mapping[Any, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """``session.run``; with ``timeout_s`` it ends with ``DeadlineExceededError`` after so many
        seconds.
        """
        if timeout_s is None:
            return self.session.run(fetches, feeds)
        return self.session.run(
            fetches, feeds, options=v1.RunOptions(timeout_in_ms=max(1, round(timeout_s * 1000)))
        )

    def callable(self, targets: Sequence[str], fetches: Sequence[str], feeds: Sequence[str]) -> Any:
        """A prepared run without ``session.run``'s cost per call; positional feeds in the order
        given. Prepared once: whoever asks for the same again gets the same.

        Measured with six feeds: 0.14 instead of 0.80 ms (a busy machine). It is
        ``_make_callable_from_options`` of ``tensorflow/python/client/session.py`` (2.21), which
        resolves feeds and fetches once; the public ``make_callable`` calls ``run`` where it has feeds.
        """
        key = (tuple(targets), tuple(fetches), tuple(feeds))
        if key not in self._calls:
            self._calls[key] = self._prepared(*key)
        return self._calls[key]

    @property
    def calls(self) -> int:
        """How many runs are prepared."""
        return len(self._calls)

    def _prepared(
        self, targets: Sequence[str], fetches: Sequence[str], feeds: Sequence[str]
    ) -> Any:
        from tensorflow.core.protobuf import config_pb2

        options = config_pb2.CallableOptions(target=targets, fetch=fetches, feed=feeds)
        prepared = self.session._make_callable_from_options(options)

        def call(*values: Any) -> Any:
            try:
                return prepared(*values)
            except tf.errors.OpError as error:
                raise located(error, self.session.graph) from None

        return call

    def close(self) -> None:
        """Free the variables and all else that the session holds."""
        self._calls = {}  # each lets go of what it holds in the session, which must be there still
        with contextlib.suppress(tf.errors.OpError):  # freed all the same
            self.session.close()


def located(error: Any, graph: Any) -> Any:
    """The error with the operation that its text names, as ``session.run`` raises it; a prepared
    run leaves it out.
    """
    named = NODE_IN_TEXT.search(error.message)
    if named is None or type(error) is tf.errors.OpError:
        return error
    try:
        op = graph.get_operation_by_name(named.group(1))
    except (KeyError, ValueError):
        return error
    return type(error)(op.node_def, op, error.message)
