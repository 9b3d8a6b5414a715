"""Do numbers read well, with their units, from the tiniest to the largest?"""

from __future__ import annotations

import pytest

from launch.text.quantities import (
    bytes_text,
    count_text,
    cut_text,
    node_text,
    rate_text,
    seconds_text,
    share_text,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.0001, "1 ms"),
        (0.0131, "13 ms"),
        (0.41, "0.41 s"),
        (9.999, "10.00 s"),
        (37.2, "37 s"),
        (59.7, "1 min 00 s"),
        (250, "4 min 10 s"),
        (3599.9, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_seconds_are_told_in_the_unit_that_people_would_use(
    seconds: float | None, text: str
) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (39_070, "39.1 kB"),
        (480e6, "480 MB"),
        (1.5e12, "1.5 TB"),
    ],
)
def test_sizes_are_told_in_powers_of_ten(size: float | None, text: str) -> None:
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0.0 %"), (0.0003, "<0.1 %"), (0.985, "98.5 %"), (0.99999, "99.9 %"), (1, "100.0 %")],
)
def test_a_share_is_never_rounded_up_to_the_whole(fraction: float, text: str) -> None:
    assert share_text(fraction) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(None, "–"), (0, "–"), (83.21, "83.2 steps/s"), (0.1, "10 s a step")]
)
def test_slow_rates_are_told_as_seconds_a_step(rate: float | None, text: str) -> None:
    assert rate_text(rate) == text


def test_counts_have_separators() -> None:
    assert (count_text(12_345), count_text(None)) == ("12,345", "–")


def test_texts_are_cut_to_one_line_and_rays_node_names_to_eight_digits() -> None:
    assert cut_text("one\ntwo") == "one"
    assert cut_text("x" * 200) == "x" * 159 + "…"
    assert node_text("0123456789abcdef" * 3 + "01234567") == "01234567"
    assert node_text("ip-10-0-0-1") == "ip-10-0-0-1"
