"""A py_func's token finds the function that was given for it, and never another one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.graph.worker_pipelines import PythonFunction
from tests.graphs.pipeline_makers import generated_rows

pytestmark = pytest.mark.tf

PLAIN = PythonFunction("pyfunc_7", "function", ("float32",))
THREE = (
    PythonFunction("pyfunc_20", "generator-start", ("int64",), generator="pyfunc_21"),
    PythonFunction("pyfunc_21", "generator-next", ("float32", "int64"), generator="pyfunc_21"),
    PythonFunction("pyfunc_22", "generator-end", ("int64",), generator="pyfunc_21"),
)


def registry() -> Any:
    from tensorflow.python.ops import script_ops

    return script_ops._py_funcs


def call(token: str, *arguments: Any) -> Any:
    return registry().get(token)(*arguments)


def test_bind_with_a_function_registers_it_under_the_graphs_token() -> None:
    from orchestrator.training.importing.py_funcs import bind

    bind([PLAIN], {"pyfunc_7": lambda value: value + 1})
    assert call("pyfunc_7", 1) == 2


def test_bind_sets_the_graphs_tokens_aside_so_that_no_other_py_func_takes_one() -> None:
    from orchestrator.training.importing.py_funcs import bind

    def another(value: Any) -> Any:
        return value

    number = registry()._unique_id + 5
    bind([PythonFunction(f"pyfunc_{number}", "function", ("float32",))], {})
    assert registry().insert(another) == f"pyfunc_{number + 1}"


def test_bind_without_a_function_unbinds_a_token_that_this_process_had_taken() -> None:
    from orchestrator.training.importing.py_funcs import bind

    def mine(value: Any) -> Any:
        return value

    token = registry().insert(mine)
    bind([PythonFunction(token, "function", ("float32",))], {})
    assert registry().get(token) is None


def test_generator_with_one_function_gives_every_pass_all_elements() -> None:
    from orchestrator.training.importing.py_funcs import bind

    bind(THREE, {"pyfunc_21": generated_rows})
    first, second = call("pyfunc_20"), call("pyfunc_20")
    assert first != second
    features, label = call("pyfunc_21", first)
    assert features.dtype == np.float32
    assert label.dtype == np.int64
    assert call("pyfunc_21", first)[0][0] == 1
    assert call("pyfunc_21", second)[0][0] == 0
    call("pyfunc_22", first)
    with pytest.raises(KeyError):
        call("pyfunc_21", first)


def test_generator_with_all_three_callbacks_given_calls_them_as_they_are() -> None:
    from orchestrator.training.importing.py_funcs import bind

    given = {
        "pyfunc_20": lambda: 1,
        "pyfunc_21": lambda number: number + 1,
        "pyfunc_22": lambda number: 0,
    }
    bind(THREE, given)  # type: ignore[arg-type]
    assert call("pyfunc_21", call("pyfunc_20")) == 2


def test_generator_that_gives_another_number_of_components_says_so() -> None:
    from orchestrator.training.importing.py_funcs import Generator

    generator = Generator(lambda: iter([(1.0, 2, 3)]), ("float32", "int64"))
    with pytest.raises(ValueError, match="gave 3 components, the graph wants 2"):
        generator.following(generator.start())


def test_generator_at_its_end_raises_what_tensorflow_takes_for_the_end_of_data() -> None:
    from orchestrator.training.importing.py_funcs import Generator

    generator = Generator(lambda: iter([]), ("float32",))
    with pytest.raises(StopIteration):
        generator.following(generator.start())
