"""Does a parse with kept descriptions give what one without them gives, and refuse the same?"""

from __future__ import annotations

import pydantic
import pytest
from cyclopts import CycloptsError
from cyclopts.argument import _collection

from launch.cli import build_app
from tests.parsers_kept import keep_what_signatures_say

RUN = ["resume", "source", "--output", "out", "--steps", "10", "--workers", "3"]


def _parsed(*more: str) -> object:
    command, bound, *_ = build_app([*RUN, *more]).parse_args(
        [*RUN, *more], exit_on_error=False, print_error=False
    )
    return command.__name__, dict(bound.arguments)


def test_parse_is_the_same_each_time_and_keeps_nothing_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pydantic, "TypeAdapter", pydantic.TypeAdapter)
    find = _collection._resolve_groups_from_callable
    monkeypatch.setattr(_collection, "_resolve_groups_from_callable", find)
    plain, other = _parsed(), _parsed("--save-steps", "7")
    assert plain != other
    keep_what_signatures_say()
    assert [_parsed(), _parsed("--save-steps", "7"), _parsed()] == [plain, other, plain]
    with pytest.raises(CycloptsError, match="seven"):
        _parsed("--save-steps", "seven")
