"""Do wheels that came in parts become whole again, and does pip install them without a network?"""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.gpu import wheels

WHEEL = "tinypart-1.0-py3-none-any.whl"


def tiny_wheel(folder: Path) -> Path:
    """A wheel with one module and a CUDA library's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    about = "tinypart-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("tinypart.py", "VALUE = 7\n")
        archive.writestr("nvidia/tiny/lib/libtiny.so.1", "")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tinypart\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{about}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{about}/RECORD", "")
    return folder / WHEEL


def test_parts_joined_again_are_the_wheel(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path / "wheels")
    whole = wheel.read_bytes()
    made = wheels.split(wheel, 100)
    assert len(made) > 5
    assert not wheel.exists()
    assert all(part.stat().st_size <= 100 for part in made)
    (joined,) = wheels.join(wheel.parent, tmp_path / "joined")
    assert joined.name == WHEEL
    assert joined.read_bytes() == whole


def test_wheel_that_is_small_enough_is_not_split(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path)
    assert wheels.split(wheel, 2**20) == [wheel]
    assert wheels.join(tmp_path, tmp_path / "joined") == []


@pytest.mark.parametrize("lost", ["aa", "ab"])
def test_missing_part_is_named(lost: str) -> None:
    names = [f"{WHEEL}.part-{end}" for end in ("aa", "ab", "ac") if end != lost]
    with pytest.raises(ValueError, match=f"part-{lost} is missing"):
        wheels.parted(names)


def test_joining_half_a_wheel_that_was_left_begins_anew(tmp_path: Path) -> None:
    wheel = tiny_wheel(tmp_path / "wheels")
    whole = wheel.read_bytes()
    wheels.split(wheel, 100)
    (tmp_path / "joined").mkdir()
    (tmp_path / "joined" / WHEEL).write_bytes(whole[:50])
    (joined,) = wheels.join(tmp_path / "wheels", tmp_path / "joined")
    assert joined.read_bytes() == whole


def test_environment_has_the_checkout_first_and_the_targets_libraries(tmp_path: Path) -> None:
    (tmp_path / "nvidia" / "cublas" / "lib").mkdir(parents=True)
    made = wheels.environment(tmp_path, {"LD_LIBRARY_PATH": "/before", "PYTHONPATH": "/own"})
    assert made["PYTHONPATH"].split(":") == [str(wheels.ROOT), str(tmp_path), "/own"]
    assert made["LD_LIBRARY_PATH"].split(":") == [
        str(tmp_path / "nvidia" / "cublas" / "lib"),
        "/before",
    ]


@pytest.mark.slow
def test_install_of_what_no_wheel_has_fails_with_pips_words(tmp_path: Path) -> None:
    tiny_wheel(tmp_path / "wheels")
    with pytest.raises(RuntimeError, match="no-such-thing"):
        wheels.install(tmp_path / "wheels", tmp_path / "out", "no-such-thing", tmp_path / "log")
