"""Is it told, before a group's first step, whether it computes what one process would?"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

from orchestrator.config import RunConfig, parse_config
from orchestrator.driver import proving, trial
from orchestrator.driver.beginning import Ready, prepared
from orchestrator.driver.proof import Proof, judged
from orchestrator.driver.proving import held_still, is_wanted, task_of, why_not
from orchestrator.driver.slots import as_recorded
from orchestrator.driver.trial import MODULE
from orchestrator.errors import GraphRefused, OrchestratorError
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import RunRecord
from tests import forked
from tests.graphs.library import CheckpointLibrary

pytestmark = pytest.mark.turns(6)

GRAPHS = "tests.driver.proof_graphs"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of all graphs."""
    directory = tmp_path_factory.mktemp("proofs")
    done = forked.run(GRAPHS, directory)
    assert not done.returncode, done.stderr[-3000:]
    return directory


def configured(source: Path, scratch: Path, function: str, **settings: Any) -> RunConfig:
    return parse_config(
        {
            "source": str(source),
            "output": str(scratch / "out"),
            "steps": 1,
            "workers": 3,
            "input": f"{GRAPHS}:{function}",
            **settings,
        }
    )


def readied(config: RunConfig) -> Ready:
    found = prepared(as_recorded(config, None), open_location(config.output), None)
    assert isinstance(found, Ready)
    return found


def tried(config: RunConfig, scratch: Path, program: str = MODULE) -> Proof:
    """What ``Proving`` gives, its process forked from one that has TensorFlow already."""
    ready = readied(config)
    assert not why_not(ready.plan.graph)
    plan, left = held_still(config, ready.start, ready.plan)
    assert not left
    fields = task_of(config, ready.start, plan, ready.slots.first) | {"cache": scratch / "cache"}
    given, answer = scratch / "task.pickle", scratch / "answer.json"
    given.write_bytes(pickle.dumps(fields))
    done = forked.run(program, given, answer)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(answer.read_text())
    return judged(found, config, batches_per_step=ready.slots.first)


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mean", "xy"),
        ("clipped", "xy"),
        ("total", "xy"),
        ("by_constant", "xy"),
        ("mean_and_penalty", "xy"),
        ("table_mean", "words"),
        ("table_sum", "words"),
        ("dropped", "xy"),
        ("time_first", "sentences"),
        ("bag_of_words", "bags"),
    ],
)
def test_proof_of_a_graph_that_a_group_trains_exactly_is_equal(
    graphs: Path, tmp_path: Path, name: str, function: str
) -> None:
    found = tried(configured(graphs / name, tmp_path, function), tmp_path)
    assert found.verdict == "equal", found
    assert found.told.startswith("proved: 3 batches give what one process with all their rows")
    assert "but for" not in found.told
    found.refuse("source")


EDITED: list[tuple[str, dict[str, Any]]] = [
    ("dropout", {"swap_optimizer": "adam", "set": {"Adam/beta1:0": "0.5"}}),
    ("dropout", {"clip_global_norm": 0.1}),
    ("dropout", {"freeze": ["hidden"], "reset_step": 40}),
    ("dropout", {"restore_only": ["hidden"]}),  # out/kernel is drawn, not held still
    ("mlp", {"swap_optimizer": "rmsprop", "clip_global_norm": 0.1, "reinit": ["out"]}),
    ("embedding", {"clip_global_norm": 0.1, "rename": {"embedding/": "embedding/"}}),
    ("mlp", {"reset_slots": True}),
]


@pytest.mark.tf
@pytest.mark.parametrize(("kind", "flags"), EDITED, ids=str)
def test_proof_of_an_edited_graph_that_a_group_trains_exactly_is_equal(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path, kind: str, flags: dict[str, Any]
) -> None:
    function = "embedding" if kind == "embedding" else "mlp"
    config = configured(tf1_checkpoint(kind), tmp_path, "", **flags)
    config = config.model_copy(update={"input": f"tests.end_to_end.inputs:{function}"})
    found = tried(config, tmp_path)
    assert found.verdict == "equal", found


@pytest.mark.tf
def test_proof_begins_with_the_values_of_the_keys_that_were_renamed(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path
) -> None:
    """The graph's variables of the scope ``hidden`` are called ``trunk`` in its saver."""
    prefix = tf1_checkpoint("mlp")
    meta = MetaGraphDef.FromString(Path(f"{prefix}.meta").read_bytes())
    renamed = 0
    for node in meta.graph_def.node:
        if node.op == "Const" and node.name.endswith("tensor_names"):
            keys = node.attr["value"].tensor.string_val
            renamed += sum(key.startswith(b"hidden/") for key in keys)
            keys[:] = [key.replace(b"hidden/", b"trunk/") for key in keys]
    assert renamed
    graph = tmp_path / "trunk.meta"
    graph.write_bytes(meta.SerializeToString())
    flags = {"meta": str(graph), "rename": {"hidden/": "trunk/"}}
    config = configured(prefix, tmp_path, "", **flags)
    config = config.model_copy(update={"input": "tests.end_to_end.inputs:mlp"})
    found = tried(config, tmp_path)
    assert found.verdict == "equal", found
    with pytest.raises(OrchestratorError, match="lacks 2 variables"):
        tried(config.model_copy(update={"rename": {}}), tmp_path)


@pytest.mark.parametrize("is_own", [False, True])
@pytest.mark.tf
def test_graph_whose_random_numbers_are_held_still_is_edited_once(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path, is_own: bool
) -> None:
    """The second edit was refused, or clipped once more; a later start took the step of the first."""
    config = configured(
        tf1_checkpoint("dropout"),
        tmp_path,
        "xy",
        swap_optimizer="adam",
        clip_global_norm=1.0,
        freeze=["hidden/bias"],
        reset_step=40,
    )
    ready = readied(config)
    start = replace(ready.start, own_label="a0001-g0001/model.ckpt-3" if is_own else None)
    plan, left = held_still(config, start, ready.plan)
    assert not left
    assert ready.plan.graph.stateful_random or ready.plan.graph.random_nodes
    assert plan.graph.stateful_random == plan.graph.random_nodes == ()
    assert plan.step == (3 if is_own else 40)
    for graph in (ready.plan.graph, plan.graph):
        ops = [node.op for node in MetaGraphDef.FromString(graph.meta).graph_def.node]
        assert ops.count("ApplyAdam") == 3
        assert ops.count("IsFinite") == 1


@pytest.mark.tf
def test_proof_of_batch_norm_excuses_statistics_that_each_batch_takes_of_its_own(
    graphs: Path, tmp_path: Path
) -> None:
    """The bias before it, of rounding alone, is no difference either."""
    found = tried(configured(graphs / "normalised", tmp_path, "xy"), tmp_path)
    assert found.verdict == "equal", found
    assert "statistics which each batch takes of its own rows" in found.told


@pytest.mark.tf
def test_proof_of_batch_norm_excuses_no_summed_loss_of_which_the_mean_is_taken(
    graphs: Path, tmp_path: Path
) -> None:
    config = configured(graphs / "normalised_sum", tmp_path, "xy", gradient_scale="mean")
    assert tried(config, tmp_path).verdict == "differs"
    summed = configured(graphs / "normalised_sum", tmp_path, "xy", gradient_scale="sum")
    assert tried(summed, tmp_path).verdict == "equal"


@pytest.mark.tf
def test_proof_of_a_summed_loss_whose_mean_is_taken_tells_the_factor_and_the_way_on(
    graphs: Path, tmp_path: Path
) -> None:
    found = tried(configured(graphs / "total", tmp_path, "xy", gradient_scale="mean"), tmp_path)
    assert found.verdict == "differs"
    assert "one process's are 3 times the group's mean: the loss sums over rows" in found.told
    assert found.remedies[0].startswith("--gradient-scale sum")
    with pytest.raises(
        GraphRefused, match=r"different gradients: 2 of 2 differ, of b .*, w "
    ) as it:
        found.refuse("source")
    assert "--accept-differences" in it.value.remedy


@pytest.mark.tf
def test_proof_of_a_mean_that_is_added_up_tells_the_factor_and_the_way_on(
    graphs: Path, tmp_path: Path
) -> None:
    found = tried(configured(graphs / "mean", tmp_path, "xy", gradient_scale="sum"), tmp_path)
    assert "the group's sum is 3 times one process's" in found.told
    assert found.remedies[0].startswith("--gradient-scale mean")
    again = configured(graphs / "mean", tmp_path, "xy", gradient_scale="mean")
    assert tried(again, tmp_path).verdict == "equal"


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "function", "weights"),
    [
        ("masked", "masked_xy", "0.222, 0.333, 0.444"),  # 2, 3 and 4 rows count
        ("mean", "uneven_xy", "0.286, 0.333, 0.381"),  # 6, 7 and 8 rows
        ("tokens", "words", ""),
    ],
)
def test_proof_of_a_mean_by_a_count_tells_the_weights(
    graphs: Path, tmp_path: Path, name: str, function: str, weights: str
) -> None:
    found = tried(configured(graphs / name, tmp_path, function), tmp_path)
    assert found.verdict == "differs", found
    assert f"weighted by {weights}" in found.told
    assert "divides by a count" in found.told


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "function"), [("weighted", "masked_xy"), ("tokens", "words"), ("empty", "empty_xy")]
)
def test_proof_of_a_mean_by_a_count_that_weights_the_batches_is_equal(
    graphs: Path, tmp_path: Path, name: str, function: str
) -> None:
    """Sparse rows, a count of whole numbers, and a batch in which nothing counts, whose gradient
    is 0/0.
    """
    source = graphs / ("weighted" if name == "empty" else name)
    config = configured(source, tmp_path, function, weight_by="counted:0")
    found = tried(config, tmp_path)
    assert found.verdict == "equal", found


@pytest.mark.tf
@pytest.mark.parametrize("name", ["contrastive", "root", "penalised"])
def test_proof_of_a_loss_that_is_not_made_of_its_batches_says_so(
    graphs: Path, tmp_path: Path, name: str
) -> None:
    found = tried(configured(graphs / name, tmp_path, "xy"), tmp_path)
    assert found.verdict == "differs", found
    assert "no weighted sum of the batches' gradients is one process's" in found.told
    assert not any("--gradient-scale" in remedy for remedy in found.remedies)


@pytest.mark.tf
def test_proof_of_a_count_that_a_group_makes_a_mean_of_names_the_update(
    graphs: Path, tmp_path: Path
) -> None:
    found = tried(configured(graphs / "rows_counted", tmp_path, "xy"), tmp_path)
    assert found.verdict == "equal", found
    mean = configured(graphs / "rows_counted", tmp_path, "xy", gradient_scale="mean")
    found = tried(mean, tmp_path)
    assert found.verdict == "differs", found
    assert "seen" in dict(found.variables)


@pytest.mark.tf
def test_proof_of_a_fixed_batch_size_gives_all_slots_the_same_and_says_what_that_cannot_show(
    graphs: Path, tmp_path: Path
) -> None:
    found = tried(configured(graphs / "fixed_mean", tmp_path, "xy"), tmp_path)
    assert found.verdict == "same batch", found
    assert "x:0" in found.told
    assert "that can't show whether the loss is a mean or a sum over rows" in found.told


@pytest.mark.tf
def test_proof_looks_at_no_metric_that_is_counted_beside_training(
    tf1_checkpoint: CheckpointLibrary, tmp_path: Path
) -> None:
    """Local variables count each batch's rows by themselves, and nobody saves them."""
    source = tf1_checkpoint("metrics")
    config = configured(source, tmp_path, "xy", input="tests.end_to_end.inputs:mlp")
    found = tried(config, tmp_path)
    assert found.verdict == "equal", found
    assert "but for" not in found.told


@pytest.mark.tf
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_proof_allows_half_types_their_own_rounding(tmp_path: Path, dtype: str) -> None:
    done = forked.run("tests.training.many_graphs", dtype, tmp_path)
    made = json.loads(done.stdout.splitlines()[-1])
    settings = {"train_op": made["train_op"], "input": f"{GRAPHS}:xy"}
    found = tried(configured(Path(made["prefix"]), tmp_path, "xy", **settings), tmp_path)
    assert found.verdict == "equal", found


BUGS = {
    "the exchange gives each what it had": """
from orchestrator.training.host import combining
whole = combining.sums_and_means
def bug(mesh, level, like, nodes, slots, *more, **named):
    whole(mesh, level, like, nodes, slots, *more, **named)
    return [array for array in like]
combining.sums_and_means = bug
""",
    "a seam is left out": """
from orchestrator.training.proof import stand
import dataclasses
first = stand.Stand.__init__
def bug(self, graph, options):
    target = graph.targets[0]
    left = tuple(seam for seam in target.dense if "w" not in getattr(seam.scale, "variables"))
    assert len(left) < len(target.dense)
    less = dataclasses.replace(target, dense=left)
    first(self, dataclasses.replace(graph, targets=(less,)), options)
stand.Stand.__init__ = bug
""",
}


@pytest.mark.tf
@pytest.mark.parametrize("name", ["mean", "normalised"])
@pytest.mark.parametrize("bug", BUGS)
def test_proof_catches_an_exchange_that_does_nothing_and_a_seam_that_was_left_out(
    graphs: Path, tmp_path: Path, name: str, bug: str
) -> None:
    program = BUGS[bug] + f"\nimport sys\nfrom {MODULE} import main\nmain(*sys.argv[1:])\n"
    found = tried(configured(graphs / name, tmp_path, "xy"), tmp_path, program)
    assert found.verdict == "differs", found


@pytest.mark.tf
def test_proof_of_an_input_that_ends_within_the_first_step_says_so_and_stops_nothing(
    graphs: Path, tmp_path: Path
) -> None:
    found = tried(configured(graphs / "mean", tmp_path, "two_batches"), tmp_path)
    assert found.verdict == "unproved"
    assert "the input ends" in found.told
    found.refuse("source")


@pytest.mark.tf
def test_graph_that_makes_its_own_batches_is_not_tried(
    tmp_path: Path, tf1_checkpoint: CheckpointLibrary
) -> None:
    source = tf1_checkpoint("queue")
    config = configured(source, tmp_path, "xy", input=None)
    assert "own pipeline" in why_not(readied(config).plan.graph)


def record(**values: Any) -> RunRecord:
    known = {"source": "s", "fingerprint": "f", "name": "m", "started_step": 0, **values}
    return RunRecord.model_validate(known)


@pytest.mark.parametrize(
    ("settings", "slots", "recorded", "wanted"),
    [
        ({}, 2, None, True),
        ({}, 1, None, False),
        ({"prove": False}, 2, None, False),
        ({}, 2, {"batches_per_step": 2, "gradient_scale": "auto"}, False),
        ({}, 4, {"batches_per_step": 2, "gradient_scale": "auto"}, True),
        ({"gradient_scale": "sum"}, 2, {"batches_per_step": 2, "gradient_scale": "auto"}, True),
        ({"prove": True}, 2, {"batches_per_step": 2, "gradient_scale": "auto"}, True),
        ({}, 2, {}, False),  # begun before there were slots
    ],
)
def test_proof_is_wanted_at_the_first_start_and_where_the_arithmetic_changes(
    settings: dict[str, Any], slots: int, recorded: dict[str, Any] | None, wanted: bool
) -> None:
    config = RunConfig.model_validate({"source": "s", **settings})
    assert is_wanted(config, slots, None if recorded is None else record(**recorded)) == wanted


@pytest.mark.parametrize("quick", [True, False])
def test_trial_that_takes_long_is_spoken_of(
    quick: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(proving, "PATIENCE_S", 60.0 if quick else 0.01)
    found = Proof("equal", "proved")

    def judged_then(_trial: Any) -> Proof:
        assert go_on.wait(60)
        return found

    monkeypatch.setattr(proving.Proving, "_judged", judged_then)
    config = parse_config({"source": "s", "workers": 2})
    nothing: Any = None
    trial = proving.Proving(config, nothing, nothing, 2, None)
    if quick:
        go_on.set()
    else:
        threading.Timer(0.3, go_on.set).start()
    with caplog.at_level("INFO", logger="tfresume"):
        assert trial.result() is found
    assert ("--no-prove" in caplog.text) is not quick


def test_trial_that_is_killed_for_its_memory_or_hangs_proves_nothing_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = pickle.dumps({})
    monkeypatch.setattr(trial, "MODULE", "tests.driver.trials_that_end_badly")
    monkeypatch.setenv("TRIAL_ENDS", "killed")
    found = trial.ask(nothing)
    assert (found["how"], found["reason"]) == (
        "none",
        "the process that tried it was killed, most likely for its memory",
    )
    monkeypatch.setenv("TRIAL_ENDS", "aborted")
    assert trial.ask(nothing)["reason"] == (
        "the process that tried it died with code -6: its last words"
    )
    monkeypatch.setenv("TRIAL_ENDS", "never")
    monkeypatch.setattr(trial, "WITHIN_S", 3.0)
    begun: list[subprocess.Popen[str]] = []
    assert trial.ask(nothing, begun.append) == {"how": "none", "reason": "it took more than 3 s"}
    assert begun[0].returncode == -signal.SIGKILL


ASKS = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", sys.argv[1], sys.argv[2], "answer", str(os.getpid())])
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.tf
def test_trial_ends_with_whoever_asked_for_it_however_long_it_waits(tmp_path: Path) -> None:
    """A driver that is killed in the middle of its proof leaves nothing behind."""
    task = tmp_path / "task"
    os.mkfifo(task)  # which nobody fills: the trial waits, as for an input that never comes
    asker = subprocess.Popen(
        [sys.executable, "-c", ASKS, MODULE, str(task)], stdout=subprocess.PIPE, text=True
    )
    assert asker.stdout is not None
    trial = psutil.Process(int(asker.stdout.readline()))
    writer = _opened_for_writing(task, trial)  # it reads: it has begun, and has tied itself
    asker.kill()
    asker.wait()
    deadline_s = time.monotonic() + 20
    while trial.is_running() and trial.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s, "it lives on"
        time.sleep(0.02)
    os.close(writer)
    asker.stdout.close()


def _opened_for_writing(fifo: Path, reader: psutil.Process) -> int:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s and reader.is_running():
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet
            time.sleep(0.05)
    raise AssertionError("the trial didn't begin to read")
