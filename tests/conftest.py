"""What do all tests share? Checkpoints made once, one Ray cluster, and a process environment of
their own.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from xdist.scheduler import LoadScopeScheduling

from tests import forked
from tests.graphs.library import CheckpointLibrary
from tests.parsers_kept import keep_what_signatures_say
from tests.turns import (
    checksum_of_the_code,
    chosen,
    marks_left_out,
    marks_of_a_file,
    not_in_turn,
    part_of,
)

pytest_plugins = ["tests.servers.object_stores", "tests.side_by_side"]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# else ray.init writes a token under the home directory
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# else what runs beside them in the other test process starves the workers
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
# else a client without credentials looks for a machine of Google's, for 15 s
os.environ.setdefault("NO_GCE_CHECK", "true")

# A shell ignores Ctrl-C in what it runs in the background, and whatever that starts would too
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no limit on their time: how busy the machine is says nothing
# about the code
settings.register_profile(
    "tfresume", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tfresume")
# Nor do they depend on the constants of whatever modules a process has imported, for which each of
# them would parse all of the product: seconds of it, in a fresh checkout
providers._get_local_constants = lambda: providers._local_constants

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "corpus"
RAY_CPUS = 8  # of Ray's bookkeeping, not of the machine: workers in tests are small


class ChaosTogether(LoadScopeScheduling):
    """For ``--dist loadfile``: files in the order of ``pytest_collection_modifyitems``, those of
    tests/chaos in one process.

    ``--dist loadgroup`` is the name for this, but pytest-xdist 3.8 hands its groups over in a way
    that pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "chaos" if file.startswith("tests/chaos/") else file


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that ``turns``, ``parts`` and the soak tell of."""
    parser.addoption("--every-turn", action="store_true", help="run all examples of each kind")
    parser.addoption("--part", help="run part N of M of the tests that were chosen, as N/M")
    parser.addoption("--record-hashes", action="store_true", help="keep what the soak ends with")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Modules and tests stay to the end: no search for garbage goes through them, neither while
    they're collected, a third of that time, nor later, half a second each.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file of which each test has a mark that the quick tests leave out isn't imported for them:
    a fifth of the time that each process takes to collect.
    """
    words = marks_left_out(config.option.markexpr)
    if collection_path.suffix != ".py" or not words:
        return None
    return True if words & marks_of_a_file(collection_path.read_text(encoding="utf-8")) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """First what kills workers within seconds, and beside it what needs no Ray; then what is left,
    wherever there is room. Of many examples of a kind those whose turn it is, unless somebody
    asks for tests of their choice.
    """
    options = ("every_turn", "keyword", "lf", "stepwise")
    if not chosen(config.args, *(config.getoption(name, False) for name in options)):
        later = not_in_turn(items, checksum_of_the_code())
        config.hook.pytest_deselected(items=[item for item in items if item in later])
        items[:] = [item for item in items if item not in later]
    if part := config.getoption("part"):
        here = set(part_of([item.nodeid for item in items], part))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in here])
        items[:] = [item for item in items if item.nodeid in here]
    # Stable: within a file nothing changes. What launches whole runs is long, and isn't to be last
    items.sort(key=lambda item: (_turn(item.path), item.path.parent.name != "launch"))
    if not any(item.get_closest_marker("tf") for item in items):
        forked.leave_tensorflow_out()
        gc.set_threshold(50_000, 20, 20)  # the quick tests make much: an eighth of their time
        keep_what_signatures_say()


@functools.cache
def _turn(file: Path) -> int:
    if file.parent.name == "chaos":
        return 0
    return 2 if "mark.ray" in file.read_text() else 1


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Chooses who runs what; None leaves it to pytest-xdist."""
    return ChaosTogether(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failure at once: a run that is cut off has said what it had found."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stdout.write(
            f"\nFAILED so far: {report.nodeid} ({report.when})\n{report.longreprtext}\n"
        )
        sys.stdout.flush()


@pytest.fixture(scope="session")
def tf1_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointLibrary:
    """Makes checkpoints of TF1 runs: ``tf1_checkpoint("mlp", optimizer="adam")`` is a prefix that
    no test writes to.
    """
    base = tmp_path_factory.getbasetemp()
    # Each of several processes has a directory below the one of the run
    graphs = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphs"
    graphs.mkdir(exist_ok=True)
    return CheckpointLibrary(graphs)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The directory of third-party checkpoints; skips where it isn't there."""
    if not (CORPUS / "corpus.tsv").is_file():
        pytest.skip("the third-party checkpoints of ../shared/corpus are not on this machine")
    return CORPUS


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one Ray cluster of one node that all tests of this session share."""
    from ray.cluster_utils import Cluster

    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": RAY_CPUS,
            "include_dashboard": False,
            "dashboard_port": 0,
            "object_store_memory": 400 * 1024 * 1024,
        },
    )
    try:
        yield cluster.address
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()
