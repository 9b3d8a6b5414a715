"""Do ``inspect`` and ``check`` answer at the command line, without TensorFlow, with the right exit
code?
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import run
from tests.graphs.library import CheckpointLibrary
from tests.launch.test_cli import without_tensorflow


@pytest.mark.tf
class TestOnARealCheckpoint:
    def test_inspect_in_json_names_train_op_variables_and_inputs(
        self, tf1_checkpoint: CheckpointLibrary, capsys: pytest.CaptureFixture[str]
    ) -> None:
        prefix = tf1_checkpoint("mlp")
        assert run(["inspect", f"{prefix}.meta", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["chosen_train_ops"]
        assert report["variables"]
        assert report["inputs"]

    def test_inspect_for_people_fits_a_terminal(
        self,
        tf1_checkpoint: CheckpointLibrary,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        assert run(["inspect", str(tf1_checkpoint("mlp"))]) == 0
        shown = capsys.readouterr().out
        assert "Train ops" in shown
        assert max(len(line) for line in shown.splitlines()) <= 80

    def test_inspect_works_with_tensorflow_unimportable(
        self, tf1_checkpoint: CheckpointLibrary
    ) -> None:
        done = without_tensorflow(f"""
            from launch.cli import run
            assert run(["inspect", {str(tf1_checkpoint("mlp"))!r}, "--json"]) == 0
            assert "tensorflow" not in sys.modules and "ray" not in sys.modules
        """)
        assert done.returncode == 0, done.stderr

    def test_check_of_unfed_placeholders_exits_2_and_names_them(
        self, tf1_checkpoint: CheckpointLibrary, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["check", str(tf1_checkpoint("mlp")), "--json"]) == 2
        report = json.loads(capsys.readouterr().out)
        assert report["resumes"] is False
        assert {problem["code"] for problem in report["problems"]} >= {"unfed-placeholder"}

    def test_check_with_an_input_function_exits_0_and_shows_both_modes(
        self, tf1_checkpoint: CheckpointLibrary, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        inputs = tmp_path / "inputs.py"
        inputs.write_text("def batches(ctx):\n    yield {}\n")
        assert (
            run(
                [
                    "check",
                    str(tf1_checkpoint("mlp")),
                    "--input",
                    f"{inputs}:batches",
                    "--workers",
                    "2",
                ]
            )
            == 0
        )
        shown = capsys.readouterr().out
        assert "a group of workers (asked for): resumes" in shown
        assert "one worker: resumes" in shown

    def test_check_of_a_damaged_checkpoint_exits_2(
        self, tf1_checkpoint: CheckpointLibrary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        prefix = tf1_checkpoint("mlp")
        for file in prefix.parent.glob(f"{prefix.name}*"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        index = tmp_path / f"{prefix.name}.index"
        index.write_bytes(index.read_bytes()[:20])
        assert run(["check", str(tmp_path / prefix.name), "--json"]) == 2
        shown = capsys.readouterr()
        report = json.loads(shown.out)
        assert report["resumes"] is False
        assert any(index.name in problem["message"] for problem in report["problems"])


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_source_that_is_missing_exits_2_with_one_message(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, str(tmp_path / "absent.meta")]) == 2
    shown = capsys.readouterr()
    assert "absent.meta" in shown.err
    assert "what to do" in shown.err
    assert shown.out == ""
