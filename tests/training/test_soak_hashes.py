"""A thousand deaths and a hundred changes of size over twenty graphs: one hash for each graph, that
of the undisturbed run, and the same as the last time?

Rule: each graph's run is a test of its own, so that they can be run in parts (``make soak
PART=3/20``). What it ends with is compared with the same steps on one worker, and with the hash that
is kept in ``hashes/`` for this platform: the file of the system, in it the versions that compute and
the processor's widest instructions, on which the last bits depend. On a platform that has none yet
``--record-hashes`` writes it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
import random
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from orchestrator.store.objects.local_files import write_atomically
from orchestrator.training.state.state import ENTRY_PREFIX, State
from tests.graphs.library import CheckpointLibrary
from tests.training.conftest import NewRanks
from tests.training.crew import Crew
from tests.training.deaths import Place
from tests.training.many_graphs import LIBRARY, NUMBERS, Case
from tests.training.ranks import RankPool

pytestmark = [pytest.mark.tf, pytest.mark.chaos, pytest.mark.slow]

GRAPHS = [*LIBRARY, *NUMBERS]
SIZES = (3, 2, 3, 1, 3, 2)
"""How many members a run has, one after the other: five changes, one of them to a single worker and
one from it."""
KILLS = 10
"""Deaths of members while a run has one of these sizes; a single worker's would end the group."""
HASHES = Path(__file__).parent / "hashes"
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
"""For which TensorFlow's kernels have ways of their own, the widest first."""


@pytest.fixture(scope="module")
def rank_pool() -> Iterator[RankPool]:
    """Processes of this file's own: the first session of a process settles its number of threads."""
    pool = RankPool()
    yield pool
    pool.close()


@dataclass
class Count:
    """What was done to a run."""

    kills: int = 0
    changes: int = 0
    steps: int = 0


def hash_of(state: State, local: frozenset[str]) -> str:
    """Of everything that is trained, kept or counted: names, types, shapes and bytes."""
    found = hashlib.sha256(f"{state.step} {state.phase}".encode())
    for name, array in sorted(state.arrays.items()):
        if name in local or name.startswith(ENTRY_PREFIX):
            continue
        found.update(f"\0{name} {array.dtype} {array.shape}\0".encode())
        found.update(repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes())
    return found.hexdigest()


def disturbed(crew: Crew, seed: int, kills: int, sizes: tuple[int, ...] = SIZES) -> Count:
    """Deaths at every size that survives one, and all changes of size."""
    draw, count = random.Random(seed), Count()
    targets = len(crew.source.graph.targets)
    crew.begin(sizes[0])
    for number, size in enumerate(sizes):
        if number:
            crew.resize(size)
            count.changes += 1
        crew.step()
        count.steps += 1
        for _ in range(kills if size > 1 else 0):
            place: Place = draw.choice(("computed", "exchanged"))
            crew.lose(draw.randrange(size), place, draw.randint(1, targets))
            count.kills += 1
            count.steps += 1
            crew.resize(size)  # a newcomer takes the place
    return count


def key_of_this_machine() -> str:
    """What the last bits of a result depend on."""
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    widest = next((name for name in INSTRUCTIONS if name in flags), "plain")
    return f"tensorflow {version('tensorflow')} numpy {version('numpy')} {widest}"


def kept_file() -> Path:
    """The file of this platform."""
    return HASHES / f"{platform.system().lower()}-{platform.machine()}.json"


def kept() -> dict[str, dict[str, str]]:
    """By machine, by graph."""
    found: dict[str, dict[str, str]] = (
        json.loads(kept_file().read_text()) if kept_file().exists() else {}
    )
    return found


def _judge(case: Case, found: str, record: bool) -> None:
    key, known = key_of_this_machine(), kept()
    if record:
        known.setdefault(key, {})[str(case)] = found
        text = json.dumps(known, indent=1, sort_keys=True) + "\n"
        write_atomically(kept_file(), text.encode())
    elif str(case) in known.get(key, {}):
        assert found == known[key][str(case)], f"{case} no longer ends with the bytes of before"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", GRAPHS, ids=map(str, GRAPHS))
def test_fifty_deaths_and_five_changes_of_size_end_with_the_hash_of_the_undisturbed_run(
    case: Case,
    tf1_checkpoint: CheckpointLibrary,
    new_ranks: NewRanks,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = case.source(tf1_checkpoint, tmp_path)
    local = frozenset(variable.name for variable in source.graph.variables if variable.local)
    crew = Crew(source, new_ranks)
    count = disturbed(crew, zlib.crc32(str(case).encode()), KILLS)
    found = hash_of(crew.agreed(), local)
    assert (count.kills, count.changes) == (50, 5)
    assert found == hash_of(crew.run(1, count.steps), local)
    with capsys.disabled():
        sys.stdout.write(f"\n{case} {found} after {count.kills} deaths\n")
    _judge(case, found, request.config.getoption("record_hashes"))


def test_soak_is_a_thousand_deaths_and_a_hundred_changes_over_twenty_graphs() -> None:
    survived = sum(size > 1 for size in SIZES)
    assert len(GRAPHS) == len({str(case) for case in GRAPHS}) == 20
    assert len(GRAPHS) * survived * KILLS == 1000
    assert len(GRAPHS) * (len(SIZES) - 1) == 100
    assert all(one != other for one, other in itertools.pairwise(SIZES))


def test_every_graph_of_the_soak_has_its_hash_where_a_platform_has_any() -> None:
    for file in HASHES.glob("*.json"):
        for key, hashes in json.loads(file.read_text()).items():
            assert hashes.keys() == {str(case) for case in GRAPHS}, (file.name, key)
            assert all(len(value) == 64 for value in hashes.values())


def test_hash_tells_a_run_that_took_a_step_less_or_whose_last_bit_is_another(
    tf1_checkpoint: CheckpointLibrary, new_ranks: NewRanks, tmp_path: Path
) -> None:
    """Two deaths and one change, and what would have to show."""
    case = GRAPHS[0]
    source = case.source(tf1_checkpoint, tmp_path)
    crew = Crew(source, new_ranks)
    count = disturbed(crew, 5, kills=1, sizes=(2, 3))
    state = crew.agreed()
    found = hash_of(state, frozenset())
    assert (count.kills, count.changes, count.steps) == (2, 1, 4)
    assert found == hash_of(crew.run(1, count.steps), frozenset())
    assert found != hash_of(crew.run(1, count.steps - 1), frozenset())
    name = next(name for name, array in state.arrays.items() if array.nbytes > 8)
    spoiled = state.arrays[name].copy()
    spoiled.reshape(-1).view("uint8")[0] ^= 1
    assert found != hash_of(State(state.step, {**state.arrays, name: spoiled}), frozenset())
