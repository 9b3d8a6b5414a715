"""Does a worker import only what it needs of TensorFlow, and is that the very same as the whole?"""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.training import tensorflow_parts

pytestmark = pytest.mark.tf
WORKER = """
import sys
import orchestrator.training.trainer
from orchestrator.training.engine import tf, v1
from orchestrator.training import tensorflow_parts as parts
assert not parts.is_whole()
assert not [name for name in sys.modules if name.partition(".")[0] == "keras"]
assert tf.as_dtype("float32") is tf.float32
graph = tf.Graph()
with graph.as_default(), v1.Session(graph=graph) as session:
    fed = v1.placeholder(tf.float32, [None, 2])
    assert fed.shape[1] == 2, "shapes as TensorFlow 2 has them"
    print(session.run(tf.reduce_sum(fed), {fed: [[1.0, 2.0]]}))
assert not parts.is_whole()
"""


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], env={**environment_of_this(), **environment}, capture_output=True, text=True, timeout=120
    )  # fmt: skip
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
        f"{WORKER}{use}\nassert parts.is_whole()\nimport tensorflow\nassert tensorflow.Graph is tf.Graph\n"
        "assert tensorflow.executing_eagerly()\nassert tensorflow.compat.v1.resource_variables_enabled()\n"
        "assert hasattr(tensorflow, 'data') and not hasattr(tensorflow, 'no_such_name')"
    )
    run(program)


def test_each_part_is_the_public_object() -> None:
    """Some public functions are wrapped once more, for eager tensors of weak types, which a graph has none of."""
    program = """
from orchestrator.training import tensorflow_parts as parts
parts.begin()
found = {name: parts._part(where) for name, where in parts.PARTS.items()}
assert not parts.is_whole()
for name, part in found.items():
    assert part is not None, f"{name} isn't where it's said to be"
    public = parts._public(name)
    if isinstance(part, type(parts)):
        assert all(getattr(public, each) is getattr(part, each) for each in dir(public) if each.endswith("Error"))
        continue
    seen = [public]
    while hasattr(seen[-1], "__wrapped__"):
        seen.append(seen[-1].__wrapped__)
    assert any(part is each for each in seen), name
"""
    run(program)


def test_name_that_is_in_no_part_comes_from_the_whole() -> None:
    run(f"{WORKER}assert v1.train.Saver\nassert parts.is_whole()\nassert tf.data.Dataset")


def test_another_layout_of_tensorflow_imports_the_whole() -> None:
    moved = "from orchestrator.training import tensorflow_parts as parts\nparts.PARTS['Graph'] = 'framework.gone:Graph'\n"
    run(f"{moved}from orchestrator.training.engine import tf\nassert tf.Graph\nassert parts.is_whole()")


@pytest.mark.parametrize("variable", ["TF_PLUGGABLE_DEVICE_LIBRARY_PATH"])
def test_libraries_that_the_package_loads_are_not_left_out(variable: str, tmp_path: Path) -> None:
    program = "from orchestrator.training import tensorflow_parts as parts\nparts.begin()\nimport sys\nassert 'tensorflow' not in sys.modules"
    run(program, **{variable: str(tmp_path)})
    (tmp_path / "tensorflow-plugins").mkdir()
    run(f"import sys\nsys.path.append({str(tmp_path)!r})\n{program}")


def test_machine_with_a_gpu_imports_the_whole(tmp_path: Path) -> None:
    driver = tmp_path / "nvidiactl"
    driver.touch()
    run(
        f"import sys\nfrom pathlib import Path\nfrom orchestrator.training import tensorflow_parts as parts\n"
        f"parts.GPU_DRIVERS = (Path({str(driver)!r}),)\nparts.begin()\nassert 'tensorflow' not in sys.modules"
    )


def test_every_name_that_this_room_takes_is_a_part_or_belongs_to_the_yardstick() -> None:
    """A name that is missing in the table would cost every worker the import of everything."""
    import re

    room = Path(inspect.getfile(tensorflow_parts)).parent
    plain = {"plain.py", "yardstick.py", "demo_run.py", "device_probe.py", "opset_export.py"}  # these take what TensorFlow offers
    missing = []
    for file in sorted(room.glob("*.py")):
        if file.name in plain or "training.engine import" not in (text := file.read_text()):
            continue
        for package, name in re.findall(r"(?<![\w.`])(tf|v1)\.([A-Za-z_][\w.]*)", text):
            public = f"compat.v1.{name}" if package == "v1" else name
            if not any(public == part or public.startswith(f"{part}.") for part in tensorflow_parts.PARTS):
                missing.append(f"{file.name}: {package}.{name}")
    assert missing == []
