"""What isn't a checkpoint is told as what it is, with what to do; nothing that stands in a
directory makes us wait.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from launch.cli import run
from launch.flags import read_config_file
from orchestrator.errors import OutputError, SourceError
from orchestrator.store.checkpoints.source import resolve_source
from orchestrator.store.objects.exclusive import create_once
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.lease import acquire
from orchestrator.store.run.run_record import RunRecord, create_run_record
from orchestrator.store.transfer.upload import upload
from tests.fakes.bundles import model, write_bundle, write_checkpoint, write_pointer


def test_pipe_in_place_of_a_source_is_refused_and_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "m-5.meta")
    assert run(["inspect", str(tmp_path / "m-5.meta")]) == 2
    assert "a named pipe, not a file" in capsys.readouterr().err


def test_pipe_in_place_of_an_index_is_refused(tmp_path: Path) -> None:
    for name in ("m-5.index", "m-5.data-00000-of-00001"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "m-5.meta").write_bytes(b"")
    with pytest.raises(SourceError, match="named pipe"):
        resolve_source(str(tmp_path))


def test_device_and_socket_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="a device"):
        open_location("/dev/zero").read_bytes()
    monkeypatch.chdir(tmp_path)  # a socket's path has 108 characters at most
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        with pytest.raises(SourceError, match="a socket"):
            open_location("s").read_bytes()


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("model.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("weights", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("model.pt", b"PK\x03\x04", "PyTorch"),
        ("model.pth", b"\x80\x02", "PyTorch"),
        ("model.keras", b"PK\x03\x04", "Keras"),
        ("model.ckpt", b"PK\x03\x04", "archive"),
        ("run.tar.gz", b"\x1f\x8b", "archive"),
        ("frozen.pb", b"\n\x05", "for serving"),
        ("notes.txt", b"hello", "a file, but not one of a checkpoint's"),
        ("empty", b"", "a file, but not one of a checkpoint's"),
    ],
)
@pytest.mark.parametrize("command", ["inspect", "check"])
def test_file_of_another_kind_is_told_as_what_it_is(
    tmp_path: Path,
    name: str,
    start: bytes,
    said: str,
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_bytes(start)
    assert run([command, str(tmp_path / name)]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "doesn't exist" not in shown
    assert "what to do:" in shown


def test_directory_of_another_kind_is_told_as_what_it_is(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"1")
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "model.h5").write_bytes(b"1")
    with pytest.raises(SourceError, match="is a SavedModel") as caught:
        resolve_source(str(saved), need_checkpoint=False)
    assert "the training itself saved into" in caught.value.remedy
    with pytest.raises(SourceError, match=r"model\.h5 in it is a model of Keras"):
        resolve_source(str(tmp_path / "keras"))


def test_pointer_that_names_another_directory_leads_not_away_from_a_good_checkpoint(
    tmp_path: Path,
) -> None:
    write_checkpoint(tmp_path, "m-5", model(5))
    write_pointer(tmp_path, "elsewhere/m-9")
    source = resolve_source(str(tmp_path))
    assert (source.step, source.place.path) == (5, str(tmp_path))
    assert any("names m-9, which isn't here" in note for note in source.notes)
    write_checkpoint(tmp_path / "elsewhere", "m-9", model(9))
    assert resolve_source(str(tmp_path)).step == 9


def test_pointer_itself_names_its_directory(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "m-5", model(5))
    write_pointer(tmp_path, "m-5")
    assert resolve_source(str(tmp_path / "checkpoint")).step == 5


def test_logs_of_a_run_without_events_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run_record(
        open_location(str(tmp_path)),
        RunRecord(source="s", fingerprint="f", name="m", started_step=0),
    )
    assert run(["logs", str(tmp_path)]) == 0
    assert "nothing in the journal of" in capsys.readouterr().err
    assert run(["logs", str(tmp_path / "nothing")]) == 2
    assert "no _tfresume/run.json" in capsys.readouterr().err


def test_configuration_key_that_stands_twice_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    for text in (
        "steps: 5\nsource: a\nsteps: 6\n",
        "source: a\nworkers:\n  count: 2\n  count: 3\n",
    ):
        file.write_text(text)
        assert run(["resume", "--config", str(file), "--output", "o"]) == 2
        assert "stands twice" in capsys.readouterr().err
    file.write_text("x: &x {count: 2}\nworkers:\n  <<: *x\n  min: 1\nfeed: {a: 1, b: 1}\n")
    assert read_config_file(str(file))["workers"] == {"count": 2, "min": 1}


@pytest.mark.parametrize("word", ["[/x]", "[bold]", "[red", "\\[x]"])
def test_word_that_looks_like_markup_is_shown_as_it_is(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word]) == 2
    shown = capsys.readouterr().err
    assert word in shown
    assert "Traceback" not in shown


def test_checkpoint_of_tensorflow_2s_objects_is_told_as_one(tmp_path: Path) -> None:
    write_bundle(tmp_path, "ckpt-1", {**model(5), "_CHECKPOINTABLE_OBJECT_GRAPH": [b"graph"]})
    with pytest.raises(SourceError, match="one of TensorFlow 2's objects"):
        resolve_source(str(tmp_path))


@pytest.mark.parametrize("output", ["afile", "afile/deep/er"])
def test_output_that_is_a_file_is_refused_and_not_taken_for_a_race(
    tmp_path: Path, output: str
) -> None:
    """``mkdir`` says that the file exists, which was read as "another driver was faster": a start
    looked for that one for ever.
    """
    (tmp_path / "afile").write_bytes(b"x")

    def wait(_: float) -> None:
        raise AssertionError("nobody holds it")

    for use in (
        lambda at: acquire(at, wait=wait),
        lambda at: at.child("x").write_bytes(b"1"),
        lambda at: create_once(at.child("x"), b"1"),
        lambda at: upload([tmp_path / "afile"], at, attempts=1),
    ):
        with pytest.raises(
            OutputError, match=r"a file stands where a directory is needed|Not a directory"
        ):
            use(open_location(str(tmp_path / output)))
    assert (tmp_path / "afile").read_bytes() == b"x"
