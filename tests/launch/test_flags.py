"""Does the command line say exactly what the configuration knows?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launch.flags import RunFlags, given, merged, read_config_file, run_config
from orchestrator.config import SECTIONS, RunConfig, parse_config
from orchestrator.config_sections import WorkersConfig
from orchestrator.errors import ConfigError
from orchestrator.store.objects.location import open_location


def flags(**values: object) -> object:
    return RunFlags(**values)


def test_sections_hold_every_field_of_the_configuration_exactly_once() -> None:
    listed = [name for section in SECTIONS for name in section.model_fields]
    assert listed == list(RunConfig.model_fields)
    assert all(section.heading for section in SECTIONS)


def test_flags_exist_for_every_field_and_every_part_of_workers() -> None:
    parts = {f"workers__{part}" for part in WorkersConfig.model_fields if part != "count"}
    assert set(RunFlags.__dataclass_fields__) == (set(RunConfig.model_fields) - {"source"}) | parts  # type: ignore[attr-defined]


def test_flags_have_a_help_text_for_every_field() -> None:
    for model in (RunConfig, WorkersConfig):
        assert [name for name, info in model.model_fields.items() if not info.description] == []


def test_given_names_only_what_the_command_line_said() -> None:
    assert given(flags(until_step=5, clear_devices=False)) == {
        "until_step": 5,
        "clear_devices": False,
    }


def test_given_splits_pairs_at_the_first_equals_sign() -> None:
    assert given(flags(feed=["keep_prob:0=0.5", "words:0=a=b"])) == {
        "feed": {"keep_prob:0": "0.5", "words:0": "a=b"}
    }


@pytest.mark.parametrize("text", ["keep_prob:0", "=0.5", ""])
def test_given_without_name_or_equals_sign_is_refused_with_the_flags_name(text: str) -> None:
    with pytest.raises(ConfigError, match="--feed") as caught:
        given(flags(feed=[text]))
    assert "NAME=VALUE" in str(caught.value)


def test_given_workers_and_their_parts_become_one_mapping() -> None:
    assert given(flags(workers=3, workers__min=2)) == {"workers": {"count": 3, "min": 2}}


@pytest.mark.parametrize(
    ("file", "line", "result"),
    [
        ({"seed": 1}, {"seed": 2}, {"seed": 2}),
        ({"seed": 1}, {"until_step": 2}, {"seed": 1, "until_step": 2}),
        ({"steps": 9}, {"until_step": 2}, {"until_step": 2}),
        ({"until_step": 9}, {"steps": 2}, {"steps": 2}),
        ({"feed": {"a:0": 1, "b:0": 2}}, {"feed": {"b:0": "3"}}, {"feed": {"a:0": 1, "b:0": "3"}}),
        ({"train_op": ["a", "b"]}, {"train_op": ["c"]}, {"train_op": ["c"]}),
        ({"workers": 4}, {"workers": {"min": 2}}, {"workers": {"count": 4, "min": 2}}),
        (
            {"workers": {"count": 4, "min": 2}},
            {"workers": {"count": 3}},
            {"workers": {"count": 3, "min": 2}},
        ),
    ],
)
def test_merged_lets_the_command_line_win(
    file: dict[str, object], line: dict[str, object], result: dict[str, object]
) -> None:
    assert merged(file, line) == result


def test_run_config_of_file_and_flags_is_one_configuration(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "output: out\nworkers: {count: 4, min: 2}\nsteps: 10\nfeed: {'keep_prob:0': 0.5}\n"
    )
    config = run_config("gs://b/run", str(file), flags(until_step=7, workers=3))
    assert (config.source, config.until_step, config.steps) == ("gs://b/run", 7, None)
    assert (config.workers.count, config.workers.smallest, config.feed) == (
        3,
        2,
        {"keep_prob:0": "0.5"},
    )


def test_run_config_source_may_stand_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("source: gs://b/run\n")
    assert run_config(None, str(file), flags()).source == "gs://b/run"


def test_run_config_without_any_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="no SOURCE"):
        run_config(None, None, flags())


def test_run_config_unknown_keys_are_all_named_by_their_dotted_path(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("workers: {coutn: 3}\nsave_step: 4\n")
    with pytest.raises(ConfigError) as caught:
        run_config("s", str(file), flags())
    assert "workers.coutn" in caught.value.message
    assert "save_step" in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "isn't valid YAML"),
        ("- a\n- b\n", "a list where a mapping"),
        ("just words", "a single value where"),
    ],
)
def test_read_config_file_that_is_no_mapping_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_config_file(str(file))


def test_read_config_file_that_is_empty_sets_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("# nothing yet\n")
    assert read_config_file(str(file)) == {}


def test_read_config_file_of_a_directory_puts_its_files_together_as_kubernetes_mounts_them(
    tmp_path: Path,
) -> None:
    kept = tmp_path / "..2026_11_28"
    kept.mkdir()
    (kept / "10-run.yaml").write_text("until_step: 9\nsave_secs: 600\nworkers: 3\n")
    (kept / "20-workers.yaml").write_text("workers: {min: 1}\nsave_secs: 180\n")
    (kept / "90-mine.yaml").write_text("steps: 5\n")
    (tmp_path / "..data").symlink_to(kept.name)
    for name in ("10-run", "20-workers", "90-mine"):
        (tmp_path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
    (tmp_path / "notes.txt").write_text("none of it")
    assert read_config_file(str(tmp_path)) == {
        "save_secs": 180,
        "workers": {"count": 3, "min": 1},
        "steps": 5,
    }
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match="without any"):
        read_config_file(str(empty))


def test_read_config_file_that_is_missing_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be read.*absent\.yaml"):
        read_config_file(str(tmp_path / "absent.yaml"))


def test_read_config_file_of_bytes_that_are_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="isn't valid YAML"):
        read_config_file(str(file))


def test_read_config_file_of_a_bucket_works_like_a_local_one() -> None:
    open_location("memory://configs/run.yaml").write_bytes(b"steps: 4\n")
    assert read_config_file("memory://configs/run.yaml") == {"steps": 4}


def test_read_config_file_of_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="bogus"):
        read_config_file("bogus://b/run.yaml")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"stpes": 3}, "stpes: there is no such key; did you mean steps?"),
        ({"save-steps": 3}, "did you mean save_steps?"),
        (
            {"workers": {"standbys": 1}},
            "workers.standbys: there is no such key; did you mean workers.standby?",
        ),
        ({"zzz": 3}, "zzz: there is no such key"),
    ],
)
def test_unknown_key_is_refused_with_the_one_that_was_meant(
    values: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)) as refused:
        parse_config({"source": "s", **values})
    assert ("did you mean" in str(refused.value)) is ("did you mean" in told)
