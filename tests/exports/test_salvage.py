"""What can be read of a damaged checkpoint is saved, the rest is named, and nothing else comes in."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orchestrator
from orchestrator.errors import OrchestratorError, SourceError
from orchestrator.exports.salvage import salvage
from orchestrator.store.bundle.bundle import read_index
from orchestrator.store.bundle.values import Values
from orchestrator.store.objects.location import open_location
from tests import forked
from tests.end_to_end.commands import resumed
from tests.fakes.bundles import model, write_bundle, write_checkpoint
from tests.turns import quick_in_turn

pytestmark = pytest.mark.turns(6)

TENSORS = {
    **{f"layer_{number:02d}/kernel": np.full((4, 3), number, np.float32) for number in range(40)},
    "words": [b"a", b"", b"longer"],
    "global_step": np.int64(5),
}
BYTES = {
    key: value if isinstance(value, list) else np.asarray(value).tobytes()
    for key, value in TENSORS.items()
}


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "source", "m-5", TENSORS, shards=2)
    return tmp_path / "source" / "m-5"


def held(directory: Path, name: str = "m-5") -> dict[str, Any]:
    """What a salvaged checkpoint holds, by an index and checksums that must fit."""
    names = (f"{name}.index", f"{name}.data-00000-of-00001")
    files = [open_location(str(directory / each)).info() for each in names]
    index = read_index((directory / names[0]).read_bytes())
    values = Values(index, files)
    return {
        key: values.strings(key) if one.dtype == "string" else b"".join(values.chunks(key))
        for key, one in index.entries.items()
    }


def damage(path: Path, *places: int) -> None:
    content = bytearray(path.read_bytes())
    for at in places:
        content[at] ^= 0x55
    path.write_bytes(content)


def test_salvage_of_a_good_checkpoint_saves_everything(prefix: Path, tmp_path: Path) -> None:
    found = salvage(str(prefix), str(tmp_path / "out"))
    assert (found.lost, found.problems, found.poisoned) == ((), (), ())
    assert held(tmp_path / "out") == BYTES
    assert "--init-missing" not in found.command


def test_salvage_of_damaged_and_cut_data_loses_those_tensors_alone(
    prefix: Path, tmp_path: Path
) -> None:
    first, second = (prefix.with_name(f"m-5.data-0000{number}-of-00002") for number in (0, 1))
    damage(first, 50)
    second.write_bytes(second.read_bytes()[:-60])
    found = salvage(str(prefix), str(tmp_path / "out"))
    reasons = {one.key: one.why for one in found.lost}
    assert 2 <= len(reasons) <= 4
    assert any("fails its checksum" in why for why in reasons.values())
    assert any("cut off" in why or "ends after" in why for why in reasons.values())
    assert held(tmp_path / "out") == {k: v for k, v in BYTES.items() if k not in reasons}


def test_salvage_without_one_of_two_data_files_saves_the_other(
    prefix: Path, tmp_path: Path
) -> None:
    prefix.with_name("m-5.data-00001-of-00002").unlink()
    found = salvage(str(prefix), str(tmp_path / "out"))
    assert found.problems == ("m-5.data-00001-of-00002 is missing",)
    assert {one.why.rpartition(", ")[2] for one in found.lost} == {"which is missing"}
    assert len(found.saved) == len(found.lost) == len(BYTES) // 2
    assert "--init-missing" in found.command


def test_salvage_of_an_index_with_a_damaged_block_takes_what_the_graph_vouches_for(
    prefix: Path, tmp_path: Path
) -> None:
    index = prefix.with_name("m-5.index")
    at = index.read_bytes().index(b"layer_18/kernel") + len("layer_18/kernel") + 3
    damage(index, at)
    found = salvage(str(prefix), str(tmp_path / "out"))
    assert len(found.problems) == 1
    assert "fails its checksum" in found.problems[0]
    assert found.saved
    got = held(tmp_path / "out")
    assert got == {key: BYTES[key] for key in got}
    assert set(got) >= {key for key in BYTES if key.startswith(("layer_0", "global"))}
    assert {one.key for one in found.lost} == set(BYTES) - set(got)


def test_salvage_puts_no_tensor_under_a_name_that_a_flipped_bit_made(
    prefix: Path, tmp_path: Path
) -> None:
    index = prefix.with_name("m-5.index")
    content = bytearray(index.read_bytes())
    at = content.index(b"layer_18/kernel") + len("layer_")
    content[at] = ord("2")  # now it, and those that share its prefix, are called layer_28 …
    index.write_bytes(content)
    found = salvage(str(prefix), str(tmp_path / "out"))
    got = held(tmp_path / "out")
    assert got == {key: BYTES[key] for key in got}
    assert "layer_18/kernel" not in got
    assert "layer_14/kernel" in got
    assert len(found.problems) == 1


@pytest.mark.parametrize("cut", [20, 60, 300])
def test_salvage_of_a_truncated_index_takes_the_blocks_before_the_cut(
    prefix: Path, tmp_path: Path, cut: int
) -> None:
    index = prefix.with_name("m-5.index")
    index.write_bytes(index.read_bytes()[:-cut])
    found = salvage(str(prefix), str(tmp_path / "out"))
    got = held(tmp_path / "out")
    assert got == {key: BYTES[key] for key in got}
    assert len(got) >= 16
    assert len(found.problems) >= 1


def test_salvage_of_a_damaged_index_without_a_graph_believes_checksums_alone(
    tmp_path: Path,
) -> None:
    write_bundle(tmp_path / "source", "m-5", TENSORS)
    index = tmp_path / "source" / "m-5.index"
    damage(index, index.read_bytes().index(b"layer_18/kernel"))
    found = salvage(str(tmp_path / "source" / "m-5"), str(tmp_path / "out"))
    assert (found.has_graph, found.command) == (False, "")
    assert any("no longer tells" in one.why for one in found.lost)
    got = held(tmp_path / "out")
    assert got == {key: BYTES[key] for key in got}


def test_salvage_of_nothing_is_refused_with_the_reason(prefix: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        prefix.with_name(f"m-5.data-0000{number}-of-00002").unlink()
    with pytest.raises(SourceError, match=r"nothing of .* can be read: .* is missing"):
        salvage(str(prefix), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_salvage_names_poisoned_tensors_and_drops_them_where_asked(tmp_path: Path) -> None:
    poisoned = {
        **model(3),
        "dense/kernel/Adam": np.array([1, 1e31, 2], np.float32),
        "dense/bias/Adam": np.array([np.nan, np.inf, 0], np.float64),
    }
    write_checkpoint(tmp_path / "source", "m-3", poisoned)
    found = salvage(str(tmp_path / "source"), str(tmp_path / "kept"))
    assert {one.key: one.why for one in found.poisoned} == {
        "dense/kernel/Adam": "1 of 3 are beyond 1e30",
        "dense/bias/Adam": "2 of 3 numbers are NaN or infinite",
    }
    assert all(one.kept and one.key in found.saved for one in found.poisoned)
    dropped = salvage(str(tmp_path / "source"), str(tmp_path / "dropped"), drop_poisoned=True)
    assert set(dropped.saved) == set(model(3))


def test_salvage_again_is_there_already(prefix: Path, tmp_path: Path) -> None:
    first = salvage(str(prefix), str(tmp_path / "out"))
    again = salvage(str(prefix), str(tmp_path / "out"))
    assert again.already
    assert again.saved == first.saved


def test_salvage_is_a_call_of_the_library() -> None:
    assert orchestrator.salvage is salvage


def _spoil(rng: random.Random, directory: Path) -> list[str]:
    done = []
    for file in sorted(directory.iterdir()):
        content = bytearray(file.read_bytes())
        kind = rng.choice(["none", "flip", "flips", "cut", "zeros", "gone", "noise"])
        at = rng.randrange(len(content))
        if kind in ("flip", "flips"):
            for _ in range(1 if kind == "flip" else 20):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif kind == "cut":
            del content[at:]
        elif kind == "zeros":
            content[at : at + 64] = bytes(len(content[at : at + 64]))
        elif kind == "noise":
            content[at : at + 64] = rng.randbytes(len(content[at : at + 64]))
        file.write_bytes(content)
        if kind == "gone" and rng.random() < 0.3:
            file.unlink()
        done.append(kind)
    return done


@pytest.mark.slow
@pytest.mark.parametrize("seed", quick_in_turn(range(8), 4))
def test_salvage_of_random_damage_saves_only_what_was_saved(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    saved = refused = 0
    for number in range(12):
        directory = tmp_path / str(number)
        write_checkpoint(directory, "m-5", TENSORS, shards=2)
        kinds = _spoil(rng, directory)
        try:
            found = salvage(str(directory / "m-5"), str(tmp_path / f"out{number}"))
        except OrchestratorError:
            refused += 1
            continue
        got = held(tmp_path / f"out{number}")
        assert got == {key: BYTES[key] for key in got}, kinds
        assert set(got) == set(found.saved)
        saved += 1
    assert saved > refused


PARTS = """
import sys, tensorflow as tf
tf1 = tf.compat.v1
tf1.disable_eager_execution()
with tf1.Graph().as_default(), tf1.Session() as session:
    for number in range(30):
        tf1.get_variable(f"old_{number}", initializer=tf.fill([300, 100], float(number)))
    tf1.get_variable("parts", [4, 300], partitioner=tf1.fixed_size_partitioner(3, axis=1))
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver().save(session, sys.argv[1] + "/v2")
    tf1.train.Saver(write_version=tf1.train.SaverDef.V1).save(session, sys.argv[1] + "/v1")
"""


@pytest.mark.tf
def test_salvage_of_v1_and_of_partitioned_variables_loses_what_was_hit(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    done = forked.run(PARTS, tmp_path / "s")
    assert done.returncode == 0, done.stderr
    old = tmp_path / "s" / "v1"
    damage(old, old.stat().st_size // 2)
    found = salvage(str(old), str(tmp_path / "old"))
    assert 1 <= len(found.lost) <= 4
    assert all("checksum" in one.why for one in found.lost)
    assert len(held(tmp_path / "old", "v1")) == 31 - len(found.lost)
    index = read_index((tmp_path / "s" / "v2.index").read_bytes())
    damage(tmp_path / "s" / "v2.data-00000-of-00001", index.slice_data[1].offset)
    found = salvage(str(tmp_path / "s" / "v2"), str(tmp_path / "new"))
    assert [one.key for one in found.lost] == ["parts"]


LOAD = """
import json, sys, tensorflow as tf
reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(sys.argv[1]))
print(json.dumps(sorted(key for key in reader.get_variable_to_shape_map() if reader.get_tensor(key) is not None)))
"""


@pytest.mark.tf
@pytest.mark.ray
def test_salvaged_checkpoint_is_loaded_by_tensorflow_and_its_printed_command_resumes_it(
    tf1_checkpoint: Callable[..., Path], tmp_path: Path, ray_address: str
) -> None:
    prefix = tf1_checkpoint.copy(tmp_path / "source", "mlp", optimizer="adam")  # type: ignore[attr-defined]
    data = prefix.with_name(f"{prefix.name}.data-00000-of-00001")
    index = read_index(prefix.with_name(f"{prefix.name}.index").read_bytes())
    damage(data, index.entries["hidden/kernel/Adam"].offset)
    found = salvage(str(prefix), str(tmp_path / "out"))
    assert [one.key for one in found.lost] == ["hidden/kernel/Adam"]
    done = forked.run(LOAD, tmp_path / "out")
    assert json.loads(done.stdout) == sorted(found.saved)
    words = shlex.split(found.command)
    assert words[:2] == ["tfresume", "resume"]
    ours = ("--input", "tests.end_to_end.inputs:mlp", "--address", ray_address, "--steps", "2")
    result = resumed(*words[2 : words.index("--steps")], *ours)
    assert (result["status"], result["final_step"]) == ("done", result["start_step"] + 2)
