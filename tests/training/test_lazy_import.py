"""Does a worker import only what it needs of TensorFlow, and is that the very same as the whole?"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import training
from orchestrator.training.engine import lazy_import

pytestmark = [pytest.mark.tf, pytest.mark.turns(6)]
WORKER = """
import sys
import orchestrator.training.trainer
from orchestrator.training.engine.tensorflow import tf, v1
from orchestrator.training.engine import lazy_import
assert not lazy_import.is_whole()
assert not [name for name in sys.modules if name.partition(".")[0] == "keras"]
assert tf.as_dtype("float32") is tf.float32
graph = tf.Graph()
with graph.as_default(), v1.Session(graph=graph) as session:
    fed = v1.placeholder(tf.float32, [None, 2])
    assert fed.shape[1] == 2, "shapes as TensorFlow 2 has them"
    print(session.run(tf.reduce_sum(fed), {fed: [[1.0, 2.0]]}))
assert not lazy_import.is_whole()
"""


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment_of_this(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def environment_of_this() -> dict[str, str]:
    import os

    return dict(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def test_worker_imports_only_parts_and_they_work() -> None:
    assert run(WORKER).split() == ["3.0"]


@pytest.mark.parametrize(
    "use",
    [
        "import tensorflow as tf; tf.data.Dataset",
        "import tensorflow.compat.v1 as tf; tf.train.Saver",
        "from tensorflow import keras; keras.layers",
        "from tensorflow.keras import layers; layers.Dense",
        "import tensorflow as tf; tf.compat.v1.train.Saver; tf.__version__; tf.keras",
        "import tensorflow; getattr(tensorflow, 'summary')",
    ],
)
def test_whoever_imports_tensorflow_beside_it_gets_all_of_it(use: str) -> None:
    program = (
        f"{WORKER}{use}\nassert lazy_import.is_whole()\nimport tensorflow\nassert tensorflow.Graph is tf.Graph\n"
        "assert tensorflow.executing_eagerly()\nassert tensorflow.compat.v1.resource_variables_enabled()\n"
        "assert hasattr(tensorflow, 'data') and not hasattr(tensorflow, 'no_such_name')"
    )
    run(program)


def test_threads_that_use_it_at_once_all_get_all_of_it() -> None:
    """As an input function with a pool of threads does: whoever comes second waits for the first
    one's import.
    """
    program = f"""{WORKER}
from concurrent.futures import ThreadPoolExecutor
import importlib, threading
import tensorflow as whole
together = threading.Barrier(6)
def use(number):
    together.wait()
    if number % 3 == 0:
        return whole.io.decode_jpeg is not None
    if number % 3 == 1:
        return importlib.import_module("tensorflow.compat.v1").train.Saver is not None
    return v1.train.Saver is not None
with ThreadPoolExecutor(6) as pool:
    assert all(pool.map(use, range(6)))
assert lazy_import.is_whole()
"""
    for _ in range(2):
        run(program)


def test_user_module_that_holds_the_package_makes_it_whole_before_its_threads_begin(
    tmp_path: Path,
) -> None:
    (tmp_path / "with_it.py").write_text("import tensorflow as tf\ndef batches(ctx): pass\n")
    (tmp_path / "without.py").write_text("import numpy\ndef batches(ctx): pass\n")
    program = f"""{WORKER}
from orchestrator.training.importing.user_code import load_function
load_function({str(tmp_path / "without.py")!r} + ":batches")
assert not lazy_import.is_whole()
load_function({str(tmp_path / "with_it.py")!r} + ":batches")
assert lazy_import.is_whole()
"""
    run(program)


def test_package_whose_import_fails_says_so_each_time_and_stays_unfinished() -> None:
    program = f"""{WORKER}
import tensorflow
class Broken:
    def exec_module(self, module): raise ImportError("a library is missing")
tensorflow.__spec__.loader = Broken()
for _ in range(2):
    try:
        tensorflow.io
    except ImportError as error:
        assert "a library is missing" in str(error)
    else:
        raise AssertionError
assert not lazy_import.is_whole()
assert tf.Graph
"""
    run(program)


def test_what_tensorflow_tells_of_itself_is_there() -> None:
    """Each name alone makes the package whole: what would do so is replaced but for the last time."""
    run(f"""{WORKER}
import tensorflow
names = sorted(lazy_import.DUNDERS - {{"__all__"}})
finish, asked = lazy_import.finish, []
class Whole:
    def __getattr__(self, name): asked.append(name); return name
lazy_import.finish = Whole
assert [getattr(tensorflow, name) for name in names] == names == asked
assert not lazy_import.is_whole()
lazy_import.finish = finish
assert all(getattr(tensorflow, name) is not None for name in names)
assert lazy_import.is_whole()
""")


def test_each_part_is_the_public_object() -> None:
    """Some public functions are wrapped once more, for eager tensors of weak types, which a graph
    has none of.
    """
    program = """
from orchestrator.training.engine import lazy_import
lazy_import.begin()
found = {name: lazy_import._part(where) for name, where in lazy_import.PARTS.items()}
assert not lazy_import.is_whole()
for name, part in found.items():
    assert part is not None, f"{name} isn't where it's said to be"
    public = lazy_import._public(name)
    if isinstance(part, type(lazy_import)):
        assert all(getattr(public, each) is getattr(part, each) for each in dir(public) if each.endswith("Error"))
        continue
    seen = [public]
    while hasattr(seen[-1], "__wrapped__"):
        seen.append(seen[-1].__wrapped__)
    assert any(part is each for each in seen), name
"""
    run(program)


def test_name_that_is_in_no_part_comes_from_the_whole() -> None:
    run(f"{WORKER}assert v1.train.Saver\nassert lazy_import.is_whole()\nassert tf.data.Dataset")


def test_another_layout_of_tensorflow_imports_the_whole() -> None:
    moved = "from orchestrator.training.engine import lazy_import\nlazy_import.PARTS['Graph'] = 'framework.gone:Graph'\n"
    run(
        f"{moved}from orchestrator.training.engine.tensorflow import tf\nassert tf.Graph\nassert lazy_import.is_whole()"
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TF_PLUGGABLE_DEVICE_LIBRARY_PATH", "somewhere"), ("TF_USE_MODULAR_FILESYSTEM", "1")],
)
def test_libraries_that_the_package_loads_are_not_left_out(
    variable: str, value: str, tmp_path: Path
) -> None:
    program = "from orchestrator.training.engine import lazy_import\nlazy_import.begin()\nimport sys\nassert 'tensorflow' not in sys.modules"
    run(program, **{variable: value})
    (tmp_path / "tensorflow-plugins").mkdir()
    run(f"import sys\nsys.path.append({str(tmp_path)!r})\n{program}")


def test_machine_with_a_gpu_imports_the_whole(tmp_path: Path) -> None:
    driver = tmp_path / "nvidiactl"
    driver.touch()
    run(
        f"import sys\nfrom pathlib import Path\nfrom orchestrator.training.engine import lazy_import\n"
        f"lazy_import.GPU_DRIVERS = (Path({str(driver)!r}),)\nlazy_import.begin()\nassert 'tensorflow' not in sys.modules"
    )


_IMPORTS = re.compile(r"training\.engine\.tensorflow import")


def test_every_name_that_this_room_takes_is_a_part_or_belongs_to_the_baseline() -> None:
    """A name that is missing in the table would cost every worker the import of everything."""
    room = Path(inspect.getfile(training)).parent
    # these take what the whole of TensorFlow offers, in processes of their own
    whole = {"device_probe.py", "opset_export.py"}
    missing, seen = [], 0
    for file in sorted(room.rglob("*.py")):
        text = file.read_text()
        if file.parent.name == "baseline" or file.name in whole or not _IMPORTS.search(text):
            continue
        seen += 1
        for package, name in re.findall(r"(?<![\w.`])(tf|v1)\.([A-Za-z_][\w.]*)", text):
            public = f"compat.v1.{name}" if package == "v1" else name
            if not any(
                public == part or public.startswith(f"{part}.") for part in lazy_import.PARTS
            ):
                missing.append(f"{file.name}: {package}.{name}")
    assert seen > 10, "the files that take names from TensorFlow aren't found"
    assert missing == []
