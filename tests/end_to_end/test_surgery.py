"""Does a run that was asked to edit its graph say so everywhere, and is the edit undone by leaving
the flag out?
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.commands import plain_variables, resumed, tfresume
from tests.graphs.library import CheckpointLibrary

pytestmark = [pytest.mark.tf, pytest.mark.ray, pytest.mark.turns(32, "whole runs")]


def test_edits_are_told_everywhere_first_start_happens_once_and_leaving_flags_out_undoes_them(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source, output = tf1_checkpoint("mlp", optimizer="momentum", resource=True), tmp_path / "out"
    words = (
        *(source, "--output", output, "--workers", "2", "--address", ray_address, "--no-prove"),
        *("--input", "tests.end_to_end.inputs:mlp"),
    )
    flags = ("--swap-optimizer", "adam", "--freeze", "hidden/*", "--reset-step", "100")
    end = ("--until-step", "103")
    checked = tfresume("check", *words, *flags, *end, "--json")
    assert checked.code == 0
    said = [one["message"] for one in checked.json["problems"] if one["code"] == "edited"]
    assert len(said) == 3
    first = resumed(*words, *flags, *end)
    assert (first["start_step"], first["final_step"]) == (100, 103)
    told = tfresume("status", output, "--json").json["edits"]
    assert [f"as asked: {text}" for text in told] == said
    page = tmp_path / "report.html"
    assert tfresume("report", output, "-o", page).code == 0
    assert "swapped the optimizer of 2 variables for Adam" in page.read_text()
    manifest = json.loads(next(output.glob("a0001-g*/*-103.manifest.json")).read_text())
    assert manifest["edits"] == told
    before, after = (
        plain_variables(source, tmp_path),
        plain_variables(first["checkpoint"], tmp_path),
    )
    assert after["out/kernel/Adam"].any()
    assert np.array_equal(after["hidden/kernel"], before["hidden/kernel"])
    # the same command once more goes on from where the run is, and not from step 100
    second = resumed(*words, *flags, "--until-step", "105")
    assert (second["start_step"], second["final_step"]) == (103, 105)

    third = resumed(*words, "--until-step", "107")

    assert (third["start_step"], third["final_step"]) == (105, 107)
    assert tfresume("status", output, "--json").json["edits"] == []
    plain = plain_variables(third["checkpoint"], tmp_path)
    assert plain.keys() == before.keys()
    assert not np.array_equal(plain["hidden/kernel"], before["hidden/kernel"])


def test_table_grows_told_everywhere_and_stays_long_without_the_flag(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary, ray_address: str
) -> None:
    source, output = tf1_checkpoint("embedding", optimizer="adagrad"), tmp_path / "out"
    words = (
        *(source, "--output", output, "--workers", "2", "--address", ray_address),
        *("--input", "tests.end_to_end.inputs:grown"),
    )
    flags = ("--grow", "embedding/table=30")
    checked = tfresume("check", *words, *flags, "--steps", "2", "--json")
    assert checked.code == 0
    said = [one["message"] for one in checked.json["problems"] if one["code"] == "edited"]
    wanted = "grew embedding/table from 20 to 30 rows, and its slots embedding/table/Adagrad"
    assert said == [f"as asked: {wanted}"]
    first = resumed(*words, *flags, "--steps", "2")
    manifest = json.loads(next(output.glob("a0001-g*/*-5.manifest.json")).read_text())
    assert manifest["edits"] == [wanted]
    before, after = (
        plain_variables(source, tmp_path),
        plain_variables(first["checkpoint"], tmp_path),
    )
    assert (len(before["embedding/table"]), len(after["embedding/table"])) == (20, 30)
    assert (after["embedding/table/Adagrad"][20:] >= np.float32(0.1)).all()

    second = resumed(*words, "--until-step", "7")

    assert (second["start_step"], second["final_step"]) == (5, 7)
    plain = plain_variables(second["checkpoint"], tmp_path)
    assert plain["embedding/table"].shape == (30, 8)
    assert not np.array_equal(plain["embedding/table"][20:], after["embedding/table"][20:])


def test_edit_that_cannot_be_made_is_refused_before_anything_starts(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    source, output = tf1_checkpoint("mlp", optimizer="momentum"), tmp_path / "out"
    words = (source, "--output", output, "--input", "tests.end_to_end.inputs:mlp")
    ended = tfresume("resume", *words, "--steps", "1", "--freeze", "hiden/*", "--json")
    assert ended.code == 2
    assert "--freeze hiden/*: no variable of the graph fits it" in ended.stderr + ended.stdout
    assert not output.exists()
