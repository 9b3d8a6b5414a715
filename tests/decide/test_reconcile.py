"""Are all rules asked anew after each change, in their order, and is an end found to that?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.decide import reconcile
from orchestrator.decide.actions import BreakStep
from orchestrator.decide.phases import IllegalMove, Phase, move
from orchestrator.decide.reconcile import MOST_CHANGES, Restless
from orchestrator.decide.turn import Turn
from tests.decide.situation import Driver

RUN = Driver(count=1).training("w0001").run


class Rules:
    """Two rules that write down that they were asked; the second changes the run so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, changes: int) -> None:
        self.asked: list[str] = []
        self.changes = changes
        monkeypatch.setattr(reconcile, "RULES", (self.first, self.second, self.third))
        monkeypatch.setattr(reconcile, "RULES_OF_STEPS", (self.second,))

    def first(self, turn: Turn) -> None:
        self.asked.append("first")

    def second(self, turn: Turn) -> None:
        self.asked.append("second")
        if self.changes:
            self.changes -= 1
            turn.set(room=turn.run.room + 1)
            turn.act(BreakStep("w0001", 1))

    def third(self, turn: Turn) -> None:
        self.asked.append("third")


def turn(phase: Phase = Phase.TRAINING) -> Turn:
    return Turn(replace(RUN, phase=phase), 1.0)


def test_first_rule_that_changes_the_run_is_followed_by_all_of_them_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = Rules(monkeypatch, 1)
    reconcile.reconcile(turn())
    assert rules.asked == ["first", "second", "first", "second", "third"]


def test_quiet_turn_asks_the_rules_of_steps_and_the_others_only_after_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for changes, asked in ((0, ["second"]), (1, ["second", "first", "second", "third"])):
        rules = Rules(monkeypatch, changes)
        quiet = turn()
        quiet.quiet = True
        reconcile.reconcile(quiet)
        assert rules.asked == asked


def test_after_the_end_no_rule_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = Rules(monkeypatch, 1)
    reconcile.reconcile(turn(Phase.ENDED))
    assert not rules.asked


def test_rules_that_never_come_to_rest_are_told_with_what_they_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Rules(monkeypatch, MOST_CHANGES - 1)
    reconcile.reconcile(turn())
    Rules(monkeypatch, MOST_CHANGES)
    with pytest.raises(Restless, match=r"no end of changes: \['BreakStep', 'BreakStep', "):
        reconcile.reconcile(turn())


def test_move_that_the_table_lacks_is_refused_by_its_two_phases() -> None:
    assert move(Phase.FORMING, Phase.TRAINING) is Phase.TRAINING
    told = "^a run that is training can't go on to forming$"
    with pytest.raises(IllegalMove, match=told):
        move(Phase.TRAINING, Phase.FORMING)
