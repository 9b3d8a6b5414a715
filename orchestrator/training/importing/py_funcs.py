"""How does a ``py_func`` get its Python function back?

Rule: a graph finds its functions by token (``pyfunc_0``) in TensorFlow's registry of this process,
and every ``py_func`` that a process makes takes the next free token. So the tokens of the graph are
set aside before anything else can take one, and what a token is bound to is what ``--py-func``
says, or nothing. ``Dataset.from_generator`` has three callbacks; one generator function stands for
them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.graph.worker_pipelines import PythonFunction
from orchestrator.training.engine.tensorflow import tf

_kept: dict[str, Any] = {}
"""Token to function: TensorFlow's registry holds its functions weakly."""


def bind(wanted: Sequence[PythonFunction], given: Mapping[str, Callable[..., Any]]) -> None:
    """Bind the tokens of a graph.

    Args:
        wanted: every ``py_func`` of the graph.
        given: token to the user's function; tokens that aren't among ``wanted`` are bound as plain
            functions.
    """
    if not wanted and not given:
        return
    from tensorflow.python.ops import script_ops

    registry = script_ops._py_funcs
    numbers = [
        int(number)
        for function in wanted
        if (number := function.token.removeprefix("pyfunc_")).isdigit()
    ]
    with registry._lock:
        registry._unique_id = max([registry._unique_id, *(number + 1 for number in numbers)])
    for function in wanted:
        registry.remove(function.token)
        _kept.pop(function.token, None)
    known = {function.token for function in wanted}
    for token, function in (
        *_generators(wanted, given),
        *((token, given[token]) for token in given if token not in known),
    ):
        _kept[token] = function
        registry._funcs[token] = function


def _generators(
    wanted: Sequence[PythonFunction], given: Mapping[str, Callable[..., Any]]
) -> Iterator[tuple[str, Any]]:
    """Token and function of everything in ``wanted`` that the user gave, in the form in which
    TensorFlow calls it.
    """
    made: dict[str, Generator] = {}
    for function in wanted:
        alone = function.token in given and not (
            function.role == "generator-next" and _only_one(function, wanted, given)
        )
        if alone:
            called: Any = given[function.token]
        elif function.generator in given:
            generator = made.setdefault(
                function.generator,
                Generator(given[function.generator], _gives(function.generator, wanted)),
            )
            called = {
                "generator-start": generator.start,
                "generator-next": generator.following,
                "generator-end": generator.end,
            }[function.role]
        else:
            continue
        yield function.token, _eager(called, function) if function.eager else _held(called)


def _only_one(
    following: PythonFunction, wanted: Sequence[PythonFunction], given: Mapping[str, Any]
) -> bool:
    """Whether the user gave one function for a generator's three callbacks."""
    return not any(
        other.token in given
        for other in wanted
        if other.generator == following.token and other is not following
    )


def _gives(token: str, wanted: Sequence[PythonFunction]) -> tuple[str, ...]:
    return next(function.gives for function in wanted if function.token == token)


def _eager(called: Callable[..., Any], function: PythonFunction) -> Any:
    from tensorflow.python.ops import script_ops

    return script_ops.EagerFunc(called, [tf.as_dtype(dtype) for dtype in function.gives], False)


def _held(called: Callable[..., Any]) -> Callable[..., Any]:
    """A function object that can be referred to weakly, which bound methods can't for long."""
    return lambda *arguments: called(*arguments)


class Generator:
    """The three callbacks of ``Dataset.from_generator`` over one function that gives an iterator.

    Args:
        function: called anew for every pass over the data, with the data set's own arguments.
        dtypes: of the flattened components of an element.
    """

    def __init__(self, function: Callable[..., Any], dtypes: Sequence[str]) -> None:
        self._function = function
        self._dtypes = [tf.as_dtype(dtype).as_numpy_dtype for dtype in dtypes]
        self._open: dict[int, Iterator[Any]] = {}
        self._numbers = itertools.count()

    def start(self, *arguments: Any) -> np.ndarray:
        """Begin a pass; its number."""
        number = next(self._numbers)
        self._open[number] = iter(self._function(*arguments))
        return np.asarray(number, np.int64)

    def following(self, number: Any) -> list[np.ndarray]:
        """The next element's components; ends with StopIteration, which TensorFlow takes for the
        end of the data.
        """
        values = tf.nest.flatten(next(self._open[int(number)]))
        if len(values) != len(self._dtypes):
            raise ValueError(
                f"the generator gave {len(values)} components, the graph wants {len(self._dtypes)}"
            )
        return [np.asarray(value, dtype) for value, dtype in zip(values, self._dtypes, strict=True)]

    def end(self, number: Any) -> np.ndarray:
        """Forget a pass."""
        self._open.pop(int(number), None)
        return np.asarray(0, np.int64)
