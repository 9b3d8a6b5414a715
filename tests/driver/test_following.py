"""What is an evaluator asked to do, and what is refused before it begins?"""

from __future__ import annotations

import pytest

from orchestrator.config import parse_config
from orchestrator.decide.evaluating import Goal
from orchestrator.driver.following import Following
from orchestrator.errors import ConfigError

CONFIG = parse_config({"source": "run"})


@pytest.mark.parametrize(
    ("fetches", "best", "known", "has_all"),
    [
        ((), None, set(), True),
        ((), None, {"loss:0"}, True),
        (("loss",), None, {"loss:0", "auc:0"}, True),
        (("loss:0", "auc"), None, {"loss:0"}, False),
        (("loss",), "auc:max", {"loss:0"}, False),
        (("loss",), "auc:max", {"loss:0", "auc:0"}, True),
        ((), "auc:max", {"loss:0"}, False),
    ],
)
def test_result_answers_all_where_it_has_each_tensor_that_is_named(
    fetches: tuple[str, ...], best: str | None, known: set[str], has_all: bool
) -> None:
    asked = Following(fetches, keep_best=Goal.parse(best) if best else None)
    assert asked.has_all(known) is has_all


def test_what_cannot_be_followed_is_refused_before_anything_begins() -> None:
    Following(name="eval-2", batches=0).check(CONFIG)
    for asked in (Following(name="a/b"), Following(batches=-1)):
        with pytest.raises(ConfigError):
            asked.check(CONFIG)
    with pytest.raises(ConfigError) as told:
        Following().check(parse_config({"source": "run", "from_step": 5}))
    assert told.value.message == "--from-step names one checkpoint, and --follow evaluates each"
    assert told.value.remedy == "Leave one out"
