"""What a user would call the prediction comes first, whoever wrote the graph and whatever its names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import parse_config
from orchestrator.driver.infer import infer
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.inference.outputs import predictions
from tests.conftest import CORPUS

pytestmark = pytest.mark.turns(6)

WANTED = {
    "AnuGayan__tensorflowChatBot/model.tflearn": "FullyConnected_2/Softmax:0",
    "Hiroki9759__learning-tensorflow/iris_model/model.ckpt-2000": (
        "dnn/multi_class_head/predictions/probabilities:0"
    ),
    "YangLiliang__DRL-for-Global-Routing/my_test_model-1000": "q/output/BiasAdd:0",
    "agoila__deepQ-learning-openaiGym/checkpoints/cartpole.ckpt": "main/fully_connected_2/BiasAdd:0",
    "LeanderLXZ__DLND-seq2seq/best_model.ckpt": "predictions:0",
    "huqinwei__tensorflow_demo/model/mnist_model-66003": "add_1:0",
    "huqinwei__tensorflow_demo/BN_variables_save.ckpt": "batchnorm_1/add_1:0",
    "kuroko1t__horovod/checkpoints/model.ckpt-11": "fully_connected_1/BiasAdd:0",
    "taiguangxing__Wide_n_deep/model/model.ckpt-2010": "head/predictions/logistic:0",
    "YHGui__TensorFlow_Estimator_Basics/model/model.ckpt-2000": "dense_1/BiasAdd:0",
    "superchaoran__TensorFlowResearch/data/checkpoint-1999": "softmax_linear/add:0",
    "vivekangadi1__AmExpert/keras/keras_model.ckpt": "dense_9/Sigmoid:0",
    "calebfoss__char-rnn-tensorflow/save/model.ckpt-500": "Softmax:0",
    "joonyoung-cv__DistributedTensorFlowExample/run/model.ckpt-0": "local/Softmax:0",
    "danielhardej__hands-on-ML/my_policy_net_pg.ckpt": "Sigmoid:0",
    "mteja94__NeuralNetworks-with-TensorFlow/my_dropout_time_series_model": "dense/BiasAdd:0",
    "criteo-research__tf-tile/model_dir/model.ckpt-0": "dense/Sigmoid:0",
    "georgesung__deep_rl_acrobot/models/model.ckpt": "policy/Softmax:0",
    "wangy12__GAN_demo_genMNIST/checkpoints/generator.ckpt": "generator/Tanh:0",
    "yszpatt__PythonStart/train_dir/model.ckpt-203": "Softmax:0",
    "pulkitgo__deeponet/model/model.ckpt-50000": "add:0",
    "princewen__tensorflow_practice/recommendation-FFM-Demo/TFModel/FFM-0": "Add_190:0",
    "soma11soma11__machine_learning_practice/my_mnist_model": "output/Y_proba:0",
    "soma11soma11__machine_learning_practice/my_model_final.ckpt": "dnn/outputs/BiasAdd:0",
    "lewis-od__Quantum-Optics/model/model.ckpt-16500": "dnn/head/predictions/probabilities:0",
}
"""Entry to what its author would call the prediction, read in the graphs by hand."""


@pytest.mark.slow
@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("entry", WANTED)
def test_prediction_of_a_third_party_graph_is_ranked_first_with_its_reason(entry: str) -> None:
    path = CORPUS / f"{entry}.meta"
    ranked = predictions(read_meta(path.read_bytes(), name=path.name), path.name)
    assert ranked[0].name == WANTED[entry]
    assert ranked[0].why
    assert len({one.name for one in ranked}) == len(ranked)


@pytest.mark.tf
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mlp", {}),
        ("mlp", {"resource": True, "summary": True}),
        ("conv_bn", {}),
        ("embedding", {"partitions": 3}),
        ("dropout", {}),
        ("lstm", {}),
        ("queue", {}),
        ("tfdata", {}),
    ],
)
def test_logits_of_graphs_of_many_kinds_are_ranked_first(
    tf1_checkpoint: Callable[..., Path], kind: str, options: dict[str, bool | int]
) -> None:
    prefix = tf1_checkpoint(kind, **options)
    path = prefix.with_name(f"{prefix.name}.meta")
    ranked = predictions(read_meta(path.read_bytes(), name=path.name), path.name)
    assert ranked[0].kind == "logits", ranked
    assert "CrossEntropy" in ranked[0].why


@pytest.mark.tf
def test_infer_without_a_fetch_gives_the_prediction(tf1_checkpoint: Callable[..., Path]) -> None:
    prefix = tf1_checkpoint("mlp")
    path = prefix.with_name(f"{prefix.name}.meta")
    wanted = predictions(read_meta(path.read_bytes(), name=path.name), path.name)[0].name
    config = parse_config({"source": str(prefix), "input": "tests.end_to_end.inputs:mlp"})
    (found,) = infer(config, [])
    assert list(found) == [wanted]
    assert found[wanted].shape[1:] == (3,)
