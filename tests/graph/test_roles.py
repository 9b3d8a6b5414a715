"""Which keys of third-party checkpoints belong to the model, by what the graph does and not by names."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inference.kept_keys import KeyRole, key_roles
from orchestrator.store.checkpoints.source import resolve_source

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("corpus")]


def _roles(corpus: Path, entry: str) -> dict[str, KeyRole]:
    source = resolve_source(str(corpus / entry))
    keys = source.keys()
    assert keys is not None
    return key_roles(read_meta(source.meta_data, name=entry), keys, entry)


def test_averages_of_weights_are_kept_and_the_count_of_steps_is_not(corpus: Path) -> None:
    roles = _roles(corpus, "huqinwei__tensorflow_demo/model/mnist_model-66003")
    averages = [key for key in roles if key.endswith("/ExponentialMovingAverage")]
    assert len(averages) == 4
    assert {roles[key].role for key in averages} == {"statistic"}
    assert not roles["Variable_4"].kept


def test_averages_of_batch_norm_are_kept(corpus: Path) -> None:
    roles = _roles(corpus, "huqinwei__tensorflow_demo/BN_variables_save.ckpt")
    assert roles["bn_1/moving_mean"].kept
    assert roles["bn_1/moving_variance"].kept


def test_a_target_network_that_is_not_trained_is_kept(corpus: Path) -> None:
    roles = _roles(corpus, "YangLiliang__DRL-for-Global-Routing/my_test_model-1000")
    target = [key for key in roles if key.startswith("t/")]
    assert len(target) == 8
    assert {roles[key].role for key in target} == {"model"}


def test_slots_of_a_sparse_update_are_the_optimizers(corpus: Path) -> None:
    roles = _roles(corpus, "calebfoss__char-rnn-tensorflow/save/model.ckpt-500")
    slots = [key for key in roles if key.startswith("rnnlm/embedding/Adam")]
    assert len(slots) == 2
    assert {roles[key].role for key in slots} == {"optimizer"}
    assert roles["Variable"].role == "optimizer"  # the rate that its author assigns


def test_slots_of_resource_variables_with_a_readiness_check_are_the_optimizers(
    corpus: Path,
) -> None:
    roles = _roles(corpus, "taiguangxing__Wide_n_deep/model/model.ckpt-2010")
    kept = [key for key, role in roles.items() if role.kept]
    assert len(kept) == 12
    assert {roles[key].role for key in kept} == {"weight"}
