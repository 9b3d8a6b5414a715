"""Does a standby take the GPUs of the rank that was lost, and only those of its own node, also
under a new driver?
"""

from __future__ import annotations

from typing import Any

from orchestrator.decide.machine import WorkerReport
from orchestrator.decide.room import Demand
from orchestrator.journal.parsing import parse_all
from orchestrator.workers.places import Lent, Place, Places, known_places, rebuilt

WITH_GPU, WITHOUT = Demand(1.0, 1.0), Demand(1.0)
NO_GROUP: Any = None


def place(ident: str, demand: Demand, worker: str | None, node: str, *devices: str) -> Place:
    return Place(
        ident, NO_GROUP, demand, (), worker, worker if demand.gpus else None, node, devices
    )


def books(*places: Place) -> Places:
    return Places(list(places))


def report(
    worker: str, group: str, *devices: str, node: str = "n1", lent_group: str = ""
) -> WorkerReport:
    return WorkerReport(
        worker, node, 1, "a", 1, 0, 2, 5, 0, 9, True, False, True, devices, group, lent_group
    )


def test_places_standby_takes_the_free_gpus_of_its_node_and_stays_where_it_lies() -> None:
    lost, spare = place("p1", WITH_GPU, "w1", "n1", "GPU-a"), place("p3", WITHOUT, "w3", "n1")
    made = books(lost, place("p2", WITH_GPU, "w2", "n1", "GPU-b"), spare)
    made.leave("w1")
    assert made.lend("w3") == Lent(("GPU-a",), "p1")
    assert (lost.worker, lost.user, spare.worker) == (None, "w3", "w3")
    assert made.lend("w3") == Lent(("GPU-a",), "p1"), "asking again changes nothing"
    assert made.lend("w2") == Lent(("GPU-b",))


def test_places_standby_on_another_node_gets_none() -> None:
    assert (
        books(place("p1", WITH_GPU, None, "n1", "GPU-a"), place("p3", WITHOUT, "w3", "n2")).lend(
            "w3"
        )
        is None
    )


def test_places_next_standby_lies_where_the_gpus_are_lent_and_not_where_the_last_one_still_is() -> (
    None
):
    lost, spare = place("p1", WITH_GPU, "w1", "n1", "GPU-a"), place("p3", WITHOUT, "w3", "n1")
    made = books(lost, spare)
    made.leave("w1")
    made.lend("w3")
    assert made.free_for(WITH_GPU, ()) is None, "its GPU is in use"
    assert made.free_for(WITHOUT, ()) is lost
    made.put(lost, "w4", WITHOUT)
    assert made.lend("w4") is None, "they're still lent"
    made.leave("w3")
    assert made.lend("w4") == Lent(("GPU-a",)), "its own place's, now that they're free"


def test_places_of_a_node_to_avoid_are_not_taken() -> None:
    made = books(place("p1", WITHOUT, None, "n1"))
    assert made.free_for(WITHOUT, ("n1",)) is None
    assert made.free_for(WITHOUT, ("n2",)) is made.all[0]


def test_places_that_ray_moves_to_another_node_forget_their_gpus() -> None:
    made = books(place("p1", WITH_GPU, "w1", "n1", "GPU-a"))
    made.arrived("w1", "n2", ("GPU-c",))
    assert made.lend("w1") == Lent(("GPU-c",))


def test_rebuilt_books_know_who_trains_on_what_and_what_the_dead_left() -> None:
    """w1 lies in p1 with its GPU; w3, a standby, lies in p3 and trains on the GPU of p2; w4's
    process is gone from p4.
    """
    found = [
        place("p1", WITH_GPU, None, "n1"),
        place("p2", WITH_GPU, None, "n1"),
        place("p3", WITHOUT, None, "n1"),
        place("p4", WITH_GPU, None, "n1"),
        place("p5", WITHOUT, None, "n1"),
    ]
    known = known_places(
        parse_all(
            [
                {"event": "worker_warm", "node": "n1", "place": "p4", "devices": ["GPU-d"]},
                {"event": "worker_warm", "worker": "w3", "node": "n1"},
            ]
        )
    )
    reports = [
        report("w1", "p1", "GPU-a"),
        report("w3", "p3", "GPU-b", lent_group="p2"),
        report("w5", "p5"),
    ]
    made = rebuilt(found, reports, known)
    assert [(item.worker, item.user, item.devices) for item in made.all] == [
        ("w1", "w1", ("GPU-a",)),
        (None, "w3", ("GPU-b",)),
        ("w3", None, ()),
        (None, None, ("GPU-d",)),
        ("w5", None, ()),
    ]
    assert made.lend("w1") == Lent(("GPU-a",))
    assert made.lend("w3") == Lent(("GPU-b",), "p2")
    assert made.lend("w5") == Lent(("GPU-d",), "p4"), "the standby takes what the dead one had"


def test_rebuilt_books_take_no_word_of_the_journal_for_a_place_that_has_moved() -> None:
    made = rebuilt([place("p4", WITH_GPU, None, "n2")], [], {"p4": ("n1", ("GPU-d",))})
    assert made.all[0].devices == ()
