"""An export holds what its source holds, is there or isn't, and is never written over."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

import orchestrator
from orchestrator.errors import ConfigError, CorruptCheckpoint, OutputError
from orchestrator.exports import export as exporting
from orchestrator.exports import export_directory
from orchestrator.exports.export import LAYOUTS, TensorFormat, export
from orchestrator.graph.inference.roles import WHY
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.objects.location import open_location
from tests import forked
from tests.conftest import CORPUS
from tests.fakes.bundles import model, write_checkpoint

pytestmark = pytest.mark.turns(6)

FORMATS: tuple[TensorFormat, ...] = ("checkpoint", "safetensors", "npz")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "source", "model.ckpt-7", model(7), shards=2)
    return tmp_path / "source" / "model.ckpt-7"


def test_export_to_safetensors_is_read_by_the_library_with_the_same_values(
    source: Path, tmp_path: Path
) -> None:
    found = export(str(source), str(tmp_path / "out"), to="safetensors")
    held = load_file(tmp_path / "out" / "model.safetensors")
    assert {key: value.tobytes() for key, value in held.items()} == {
        key: np.asarray(value).tobytes() for key, value in model(7).items()
    }
    assert held["dense/kernel"].shape == (8, 4)
    assert found.compared_bytes == sum(np.asarray(value).nbytes for value in model(7).values())


def test_export_to_npz_is_read_by_numpy_without_pickles(tmp_path: Path) -> None:
    tensors = {**model(1), "words": [b"", b"two", b"\xff"], "flag": np.array([True, False])}
    write_checkpoint(tmp_path / "source", "m-1", tensors)
    export(str(tmp_path / "source"), str(tmp_path / "out"), to="npz")
    with np.load(tmp_path / "out" / "model.npz", allow_pickle=False) as held:
        assert set(held.files) == set(tensors)
        assert held["words"].tolist() == tensors["words"]
        assert held["flag"].tolist() == [True, False]
        assert held["dense/kernel"].tobytes() == tensors["dense/kernel"].tobytes()


def test_export_json_maps_names_types_and_shapes(source: Path, tmp_path: Path) -> None:
    export(str(source), str(tmp_path / "out"), to="npz", omit=["beta*"])
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    kernel = next(item for item in told["tensors"] if item["key"] == "dense/kernel")
    assert (kernel["name"], kernel["dtype"], kernel["shape"]) == ("dense/kernel", "float32", [8, 4])
    assert kernel["variables"] == ["dense/kernel"]
    assert told["left_out"] == [{"key": "beta1_power", "why": "--omit says so"}]
    assert not (tmp_path / "out" / export_directory.BEGUN).exists()


@pytest.mark.parametrize("to", FORMATS)
def test_export_to_any_fsspec_url_twice_is_the_same_bytes(
    source: Path, tmp_path: Path, to: TensorFormat
) -> None:
    url = f"memory://{tmp_path.name}-{to}/out"
    first, second = export(str(source), url, to=to), export(str(source), str(tmp_path / to), to=to)
    for name in first.files:
        data = open_location(f"{url}/{name}").read_bytes()
        assert data == (tmp_path / to / name).read_bytes()
    assert first.tensors == second.tensors


def test_export_that_is_there_already_is_left_alone(source: Path, tmp_path: Path) -> None:
    first = export(str(source), str(tmp_path / "out"), to="npz")
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    again = export(str(source), str(tmp_path / "out"), to="npz")
    assert (first.already, again.already) == (False, True)
    assert again.tensors == first.tensors
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()} == before


def test_export_over_another_export_is_refused(source: Path, tmp_path: Path) -> None:
    export(str(source), str(tmp_path / "out"), to="npz")
    with pytest.raises(OutputError, match="holds another export"):
        export(str(source), str(tmp_path / "out"), to="safetensors")


def test_export_into_a_directory_of_others_is_refused_and_touches_nothing(
    source: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.npz").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"isn't empty \(model.npz\)"):
        export(str(source), str(tmp_path / "out"), to="npz")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.npz"]
    assert (tmp_path / "out" / "model.npz").read_bytes() == b"mine"


class Died(BaseException):
    """The process's end, which no ``except Exception`` sees."""


@pytest.mark.parametrize("at", ["begin", "put", "compare", "complete"])
def test_export_that_died_isnt_there_and_the_same_call_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    module = exporting if at == "compare" else export_directory
    deaths = []

    def die(*_: Any, **__: Any) -> None:
        deaths.append(at)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(module, at, die)
        with pytest.raises(Died):
            export(str(source), str(tmp_path / "out"), to="safetensors")
    assert deaths == [at]
    assert not (tmp_path / "out" / "export.json").exists()
    assert not export(str(source), str(tmp_path / "out"), to="safetensors").already
    assert load_file(tmp_path / "out" / "model.safetensors")["global_step"] == 7


@pytest.mark.parametrize("to", FORMATS)
def test_export_of_which_a_byte_changed_on_its_way_is_never_complete(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: TensorFormat
) -> None:
    really = export_directory.put
    changed = []

    def put(directory: Any, files: Any) -> Any:
        records = really(directory, files)
        for file in Path(directory.path).iterdir():
            content = bytearray(file.read_bytes())
            at = content.find(np.asarray(model(7)["dense/kernel"]).tobytes()[:16])
            if at >= 0:
                content[at] ^= 1
                file.write_bytes(content)
                changed.append(file.name)
        return records

    monkeypatch.setattr(export_directory, "put", put)
    with pytest.raises(CorruptCheckpoint):
        export(str(source), str(tmp_path / "out"), to=to)
    assert len(changed) == 1
    assert not (tmp_path / "out" / "export.json").exists()


def test_export_of_a_type_that_a_format_lacks_is_refused_and_its_remedy_works(
    tmp_path: Path,
) -> None:
    write_checkpoint(tmp_path / "source", "m-1", {**model(1), "words": [b"a"]})
    with pytest.raises(ConfigError, match=r"can't hold 'words' \(string\)") as refused:
        export(str(tmp_path / "source"), str(tmp_path / "out"), to="safetensors")
    assert refused.value.remedy.startswith("--to checkpoint or --to npz holds all of them")
    assert "--omit 'words'" in refused.value.remedy
    assert not (tmp_path / "out").exists()
    export(str(tmp_path / "source"), str(tmp_path / "out"), to="safetensors", omit=["words"])


def test_export_of_strings_that_numpy_would_cut_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "source", "m-1", {**model(1), "words": [b"a\0"]})
    with pytest.raises(ConfigError, match="ends in a zero byte"):
        export(str(tmp_path / "source"), str(tmp_path / "out"), to="npz")


def test_export_of_a_damaged_source_writes_nothing(source: Path, tmp_path: Path) -> None:
    data = source.with_name("model.ckpt-7.data-00000-of-00002")
    content = bytearray(data.read_bytes())
    content[1] ^= 1
    data.write_bytes(content)
    with pytest.raises(CorruptCheckpoint):
        export(str(source), str(tmp_path / "out"), to="npz")
    assert not (tmp_path / "out").exists()


def test_export_is_a_call_of_the_library() -> None:
    assert orchestrator.export is export


PEAK = """
import resource, sys
from orchestrator.exports.export import export
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export(sys.argv[1], sys.argv[2], to=sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_export_of_a_large_tensor_holds_pieces_of_it(tmp_path: Path, to: TensorFormat) -> None:
    megabytes = 120
    tensors = {"large": np.ones((megabytes, 1 << 18), np.float32), "small": np.float32(1)}
    write_checkpoint(tmp_path / "source", "m-1", tensors)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "source"), str(tmp_path / "out"), to]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < megabytes * 1024 / 2


WITHOUT_TENSORFLOW = (
    "import sys; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:]; "
    "from launch.cli import main; main()"
)


@pytest.mark.slow
def test_export_command_runs_without_tensorflow(source: Path, tmp_path: Path) -> None:
    words = [
        "tfresume",
        "export",
        str(source),
        "--to",
        "npz",
        "-o",
        str(tmp_path / "out"),
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["status"], told["to"], told["files"]) == ("done", "npz", ["model.npz"])


def _entries() -> list[str]:
    if not (CORPUS / "corpus.tsv").is_file():
        return []
    with (CORPUS / "corpus.tsv").open() as table:
        entries = [row["entry"] for row in csv.DictReader(table, delimiter="\t")]
    return [entry for entry in entries if _has_data(CORPUS / entry)]


def _has_data(prefix: Path) -> bool:
    """Whether its variables are there too; of one entry only the graph and the index were kept."""
    return prefix.exists() or any(prefix.parent.glob(f"{prefix.name}.data-*"))


@pytest.mark.slow
@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("to", FORMATS)
def test_export_of_every_third_party_checkpoint_succeeds_without_its_slots(
    tmp_path: Path, to: TensorFormat
) -> None:
    entries = _entries()
    assert len(entries) >= 29
    for number, entry in enumerate(entries):
        found = export(str(CORPUS / entry), str(tmp_path / str(number)), to=to)
        assert found.compared_bytes, entry
        assert any(item.role == "weight" for item in found.tensors), entry
        slots = ("/Adam", "/Adam_1", "/RMSProp", "/RMSProp_1", "/Momentum", "/Adagrad", "/Ftrl")
        assert [item.key for item in found.tensors if item.key.endswith(slots)] == [], entry


READ = """
import json, sys
import numpy as np, tensorflow as tf
newest = tf.train.latest_checkpoint(sys.argv[1])
one, other = tf.train.load_checkpoint(newest), tf.train.load_checkpoint(sys.argv[2])
shapes = one.get_variable_to_shape_map()
same = [bool(np.array_equal(one.get_tensor(key), other.get_tensor(key))) for key in shapes]
print(json.dumps([all(same), sorted(shapes), sorted(other.get_variable_to_shape_map())]))
"""


@pytest.mark.tf
@pytest.mark.parametrize(
    ("kind", "options", "kept"),
    [
        ("mlp", {"optimizer": "adam"}, {"weight": 4}),
        ("embedding", {"optimizer": "adam", "partitions": 3}, {"weight": 3}),
        ("ema", {}, {"weight": 2, "statistic": 2}),
        ("conv_bn", {}, {"weight": 5, "statistic": 2}),
        ("metrics", {}, {"weight": 2}),
    ],
)
def test_export_to_checkpoint_is_read_by_tensorflow_and_lacks_what_only_training_needs(
    tf1_checkpoint: Callable[..., Path],
    tmp_path: Path,
    kind: str,
    options: dict[str, Any],
    kept: dict[str, int],
) -> None:
    prefix = tf1_checkpoint(kind, **options)
    found = export(str(prefix), str(tmp_path / "out"), to="checkpoint")
    roles = [item.role for item in found.tensors]
    assert {role: roles.count(role) for role in set(roles)} == kept
    assert {one.why for one in found.left_out} <= set(WHY.values())
    done = forked.run(READ, tmp_path / "out", prefix)
    assert done.returncode == 0, done.stderr
    same, keys, all_keys = json.loads(done.stdout)
    assert same
    assert set(keys) < set(all_keys)
    held = read_index((tmp_path / "out" / "model.ckpt.index").read_bytes())
    assert [tensor.slices for tensor in held.entries.values() if tensor.slices] == []


@pytest.mark.tf
def test_export_of_halves_says_how_they_are_held(tmp_path: Path) -> None:
    made = """
import sys, tensorflow as tf
tf1 = tf.compat.v1
tf1.disable_eager_execution()
with tf1.Graph().as_default(), tf1.Session() as session:
    tf1.get_variable("brain", initializer=tf.cast([1.5, -3.0, 1e30], tf.bfloat16))
    tf1.get_variable("half", initializer=tf.cast([0.1, 2.0], tf.float16))
    tf1.get_variable("turn", initializer=tf.constant([1 + 2j], tf.complex64))
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver().save(session, sys.argv[1] + "/m")
"""
    (tmp_path / "source").mkdir()
    done = forked.run(made, tmp_path / "source")
    assert done.returncode == 0, done.stderr
    npz = export(str(tmp_path / "source"), str(tmp_path / "npz"), to="npz")
    stored = {item.key: item.stored_as for item in npz.tensors}
    assert stored == {"brain": "float32", "half": "float16", "turn": "complex64"}
    with np.load(tmp_path / "npz" / "model.npz") as held:
        assert held["brain"][:2].tolist() == [1.5, -3.0]
        assert held["half"].dtype == np.float16
    export(str(tmp_path / "source"), str(tmp_path / "safe"), to="safetensors")
    with safe_open(tmp_path / "safe" / "model.safetensors", framework="np") as file:
        assert file.get_slice("brain").get_dtype() == "BF16"
        assert file.get_tensor("turn").tolist() == [1 + 2j]


def test_every_format_has_a_layout() -> None:
    assert set(LAYOUTS) == set(FORMATS)
