"""Each way in which a directory of checkpoints can be wrong: one typed error, or a walk back that
says why. Never silently wrong.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import CorruptCheckpoint, SourceError
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.transfer.staging import stage
from tests.fakes.bundles import meta_bytes, model, write_bundle, write_checkpoint, write_pointer
from tests.store.damage import DATA, STEPS, cut, flip, resolved_step


def other_step(directory: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        shutil.copyfile(directory / f"m-100{suffix}", directory / f"m-300{suffix}")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "index truncated": (
        lambda d: cut(d / "m-300.index", 60),
        "m-300.index doesn't end in a table's footer",
    ),
    "index empty": (lambda d: cut(d / "m-300.index", 0), "m-300.index is empty"),
    "index tiny": (lambda d: cut(d / "m-300.index", 7), "m-300.index has only 7 bytes"),
    "index missing": (lambda d: (d / "m-300.index").unlink(), "m-300.index is missing"),
    "index flipped": (lambda d: flip(d / "m-300.index", 10), "m-300.index"),
    "index is an LFS pointer": (lambda d: (d / "m-300.index").write_bytes(LFS), "Git LFS pointer"),
    "data truncated": (lambda d: cut(d / DATA, 20), "is cut off: 20 bytes of"),
    "data empty": (lambda d: cut(d / DATA, 0), "is cut off: 0 bytes of"),
    "data missing": (lambda d: (d / DATA).unlink(), f"{DATA} is missing"),
    "data flipped": (lambda d: flip(d / DATA, 9), "fails its checksum"),
    "data extended": (
        lambda d: (d / DATA).write_bytes((d / DATA).read_bytes() + b"more"),
        "4 bytes more than its index accounts for",
    ),
    "data of another step": (lambda d: other_step(d, ".data-00000-of-00001"), "aren't of one save"),
    "index of another step": (lambda d: other_step(d, ".index"), "aren't of one save"),
    "data and index of another step": (
        lambda d: other_step(d, ".index", ".data-00000-of-00001"),
        "its data is of step 100, its name says 300",
    ),
    "meta truncated": (lambda d: cut(d / "m-300.meta", 100), "is not a MetaGraphDef"),
    "meta empty": (lambda d: cut(d / "m-300.meta", 0), "is empty"),
    "meta of another model": (
        lambda d: (d / "m-300.meta").write_bytes(
            meta_bytes({"dense/kernel": np.zeros((9, 9), np.float32)})
        ),
        r"'dense/kernel' has shape \[8, 4\] in it, \[9, 9\] in the graph",
    ),
    "meta of nothing alike": (
        lambda d: (d / "m-300.meta").write_bytes(meta_bytes({"conv": np.zeros(3, np.float32)})),
        "none of the 1 variables that the graph's saver restores",
    ),
    "meta with another dtype": (
        lambda d: (d / "m-300.meta").write_bytes(meta_bytes({"global_step": np.int32(0)})),
        "'global_step' is int64 in it, int32 in the graph",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_resolve_directory_with_a_bad_newest_walks_back_and_says_why(
    directory: Path, fault: str
) -> None:
    damage, said = FAULTS[fault]
    damage(directory)
    source = resolve_source(str(directory))
    assert source.step == 200
    (refusal,) = source.refused
    assert (refusal.checkpoint, refusal.step) == ("m-300", 300)

    assert re.search(said, refusal.reason), refusal.reason


@pytest.mark.parametrize("fault", FAULTS)
def test_resolve_prefix_that_is_bad_is_one_error_with_file_and_remedy(
    directory: Path, fault: str
) -> None:
    damage, said = FAULTS[fault]
    damage(directory)
    with pytest.raises((CorruptCheckpoint, SourceError), match=said) as caught:
        resolve_source(str(directory / "m-300"))
    assert "m-300" in caught.value.message
    assert caught.value.remedy


def test_resolve_directory_where_all_are_bad_lists_each(directory: Path) -> None:
    for step in STEPS:
        cut(directory / f"m-{step}.index", 5)
    with pytest.raises(CorruptCheckpoint, match="none of the 3 newest checkpoints") as caught:
        resolve_source(str(directory))
    assert [item["step"] for item in caught.value.details["refused"]] == [300, 200, 100]


def test_resolve_large_tensor_flipped_is_found_while_staging_then_walked_back(
    tmp_path: Path,
) -> None:
    source_dir = tmp_path / "src"
    for step in (100, 200):
        write_checkpoint(source_dir, f"m-{step}", model(step, rows=300_000))
    flip(source_dir / "m-200.data-00000-of-00001", 3_000_000)
    source = resolve_source(str(source_dir))
    assert source.step == 200  # a quick check reads the small tensors only
    with pytest.raises(
        CorruptCheckpoint,
        match=r"m-200\.data-00000-of-00001: tensor 'dense/kernel' fails its checksum",
    ):
        stage(source.files, tmp_path / "cache")
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())
    older = resolve_source(str(source_dir), exclude={source.label: "damaged"})
    assert (older.step, older.refused[0].reason) == (100, "damaged")
    assert stage(older.files, tmp_path / "cache").name == "m-100"
    deep = resolve_source(str(source_dir), deep=True)
    assert deep.step == 100
    assert "1 damaged tensors" in deep.refused[0].reason


def test_resolve_newest_that_lacks_a_variable_is_passed_over_but_can_be_named(
    directory: Path,
) -> None:
    tensors = model(400)
    (directory / "m-400.meta").write_bytes(meta_bytes(tensors))
    write_bundle(
        directory, "m-400", {key: value for key, value in tensors.items() if key != "dense/bias"}
    )
    source = resolve_source(str(directory))
    assert source.step == 300
    assert (
        "lacks 1 of the 4 variables that its graph's saver restores, such as 'dense/bias'"
        in source.refused[0].reason
    )
    # The plan says what that means, and --init-missing allows it
    assert "dense/bias" not in (resolve_source(str(directory / "m-400")).keys() or {})


# The state file


@pytest.mark.parametrize(
    "named",
    [
        "/home/someone/else/m-300",
        "F:\\\\python\\\\train\\\\m-300",
        "F:\\python\\train\\m-300",
        "../../../etc/m-300",
        "./m-300",
        "gs://other/bucket/m-300",
        "m-999",
        "/etc/passwd",
        "../../../etc/passwd",
        "..",
        "",
        "m-300\x00",
    ],
)
def test_resolve_pointer_of_any_kind_stays_in_the_directory(directory: Path, named: str) -> None:
    write_pointer(directory, named)
    source = resolve_source(str(directory))
    assert source.step == 300
    assert all(Path(file.location.path).parent == directory for file in source.files)


def test_resolve_pointer_absolute_to_a_place_that_exists_takes_the_directory_asked_for(
    directory: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "old place"
    write_checkpoint(elsewhere, "m-300", model(999))
    write_pointer(directory, str(elsewhere / "m-300"))
    assert resolved_step(directory) == 300


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"model_checkpoint_path: m-300\n",
        b"{}",
        b'model_checkpoint_path: "\\xZZ"',
    ],
)
def test_resolve_pointer_of_garbage_is_ignored(directory: Path, content: bytes) -> None:
    (directory / "checkpoint").write_bytes(content)
    assert resolved_step(directory) == 300


def test_resolve_without_pointer_takes_the_newest(directory: Path) -> None:
    (directory / "checkpoint").rename(directory / "checkpoint@m-100")
    assert resolved_step(directory) == 300


def test_resolve_pointer_to_an_older_step_takes_the_newest_and_says_so(directory: Path) -> None:
    write_pointer(directory, "m-100")
    source = resolve_source(str(directory))
    assert source.step == 300
    assert "names m-100" in source.notes[0]


def test_resolve_several_models_takes_the_pointed_one_and_names_the_others(directory: Path) -> None:
    write_checkpoint(directory, "best", model(7))
    write_checkpoint(directory, "m", model(8))
    source = resolve_source(str(directory))
    assert (source.name, source.step) == ("m", 300)
    assert "best, m" in source.notes[0]


def test_resolve_several_models_without_a_useful_pointer_asks(directory: Path) -> None:
    write_checkpoint(directory, "best", model(7))
    write_pointer(directory, "gone-1")
    with pytest.raises(SourceError, match=r"several models .*gone-1.*best, m-300") as caught:
        resolve_source(str(directory))
    assert caught.value.details["prefixes"] == ["best", "m-300"]
    assert resolve_source(str(directory / "best")).step == 7


def test_resolve_pointer_into_a_subdirectory_follows_it(directory: Path) -> None:
    (directory / "checkpoint").unlink()
    parent = directory.parent
    (parent / "checkpoint").write_text(f'model_checkpoint_path: "{directory.name}/m-200"\n')
    assert resolved_step(parent) == 300
