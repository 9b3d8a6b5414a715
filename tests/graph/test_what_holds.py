"""Does the page on what holds in a group say what the table of patterns says?"""

from __future__ import annotations

from tests.graph.silent import FIELDS, PATTERNS
from tests.graph.what_holds import DOCUMENT, document


def test_page_on_what_holds_in_a_group_is_the_one_written_from_the_table() -> None:
    assert DOCUMENT.read_text() == document(), "run: python -m tests.graph.what_holds"


def test_every_refusal_and_every_difference_of_the_table_has_words_to_be_held_to() -> None:
    silent = [name for name, one in PATTERNS.items() if one.outcome != "equal" and not one.saying]
    assert not silent


def test_table_has_no_name_twice_and_says_of_each_graph_what_it_is() -> None:
    assert len(PATTERNS) == sum(map(len, FIELDS.values()))
    assert all(one.seen for one in PATTERNS.values())
    assert not [name for name, one in PATTERNS.items() if one.outcome == "equal" and one.gap]
