"""Is what may survive still in the code, and is what mutmut says read as it's meant?"""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tests.mutants.survivors import Change, change_of, listed, names_of

RESULTS = """
    orchestrator.decide.budgets.xǁBudgetsǁspend__mutmut_4: survived
    orchestrator.decide.budgets.x_backoff_s__mutmut_2: killed
    orchestrator.decide.budgets.xǁLossesǁtake__mutmut_1: no tests
    orchestrator.store.objects.layout.x_shard_of__mutmut_1: survived
    orchestrator.exports.export_directory.x_put__mutmut_1: survived
"""
DIFF = """
# orchestrator.decide.budgets.xǁBudgetsǁspend__mutmut_4: survived
--- orchestrator/decide/budgets.py
+++ orchestrator/decide/budgets.py
@@ -1,4 +1,4 @@
 def spend(self, cause, node, now_s):
-    recent = tuple(entry for entry in self.entries if now_s - entry.at_s < WINDOW_S)
+    recent = tuple(entry for entry in self.entries if now_s - entry.at_s <= WINDOW_S)
     return recent
"""


def test_mutants_that_no_test_noticed_are_found_in_what_mutmut_says() -> None:
    assert names_of(RESULTS, ("decide", "store.objects")) == [
        "orchestrator.decide.budgets.xǁBudgetsǁspend__mutmut_4",
        "orchestrator.decide.budgets.xǁLossesǁtake__mutmut_1",
        "orchestrator.store.objects.layout.x_shard_of__mutmut_1",
    ]


def test_change_that_is_listed_is_known_again() -> None:
    change = change_of("orchestrator.decide.budgets.xǁBudgetsǁspend__mutmut_4", DIFF)
    assert change in listed()
    assert change._replace(module="orchestrator.decide.room") not in listed()


@pytest.mark.parametrize("change", listed(), ids=lambda change: change.module)
def test_listed_change_is_one_of_the_code_as_it_is_and_has_a_reason(change: Change) -> None:
    text = " ".join((ROOT / f"{change.module.replace('.', '/')}.py").read_text().split())
    assert change.was in text, "the code has changed: look again whether a test can tell"
    assert change.was != change.becomes
    assert len(listed()[change]) > 20
