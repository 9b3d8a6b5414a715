"""What operations do to state is read off their OpDefs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tensorboard.compat.proto.op_def_pb2 import OpDef

from orchestrator.graph.graphdef import op_traits, opset


def _definition(op_type: str) -> OpDef:
    found = opset.op_def(op_type)
    assert found is not None, op_type
    return found


@pytest.mark.parametrize(
    ("trait", "having", "lacking"),
    [
        (
            op_traits.writes_variable,
            "Assign AssignAdd AssignVariableOp ApplyAdam ResourceApplyAdam SparseApplyFtrl ScatterSub ResourceScatterNdAdd CountUpTo "
            "ResourceCountUpTo StatefulUniform RngReadAndSkip StridedSliceAssign ResourceStridedSliceAssign NegTrain",
            "RefIdentity RefSwitch RefMerge RefEnter IsVariableInitialized ReadVariableOp ResourceGather VariableShape "
            "VarIsInitializedOp QueueEnqueueV2 LookupTableFindV2 IteratorGetNext TensorArrayWriteV3 StackPushV2 WriteSummary",
        ),
        (
            op_traits.writes_table,
            "LookupTableInsert LookupTableInsertV2 LookupTableImportV2 InitializeTableV2 InitializeTableFromTextFileV2",
            "LookupTableFindV2 LookupTableSizeV2 HashTableV2 LookupTableExportV2",
        ),
        (
            op_traits.writes_accumulator,
            "AccumulatorApplyGradient AccumulatorTakeGradient SparseAccumulatorApplyGradient ResourceAccumulatorTakeGradient",
            "ConditionalAccumulator AccumulatorNumAccumulated AccumulateNV2",
        ),
        (
            op_traits.is_optimizer_update,
            "ApplyGradientDescent ResourceApplyGradientDescent ApplyAdam SparseApplyMomentum ApplyProximalGradientDescent",
            "Assign ScatterSub AccumulatorApplyGradient AddN",
        ),
        (
            op_traits.is_sparse_update,
            "SparseApplyAdagrad ResourceSparseApplyAdagrad",
            "ApplyAdagrad ScatterAdd",
        ),
        (
            op_traits.is_scatter,
            "ScatterSub ScatterNdAdd ResourceScatterAdd",
            "AssignSub ScatterNd SparseApplyAdagrad",
        ),
        (
            op_traits.is_variable,
            "Variable VariableV2 VarHandleOp",
            "TemporaryVariable ConditionalAccumulator HashTableV2 Placeholder",
        ),
        (
            op_traits.is_random,
            "RandomUniform TruncatedNormal Multinomial RandomShuffle",
            "RandomShuffleQueueV2 StatelessRandomUniform Const",
        ),
        (
            op_traits.takes_from_queue,
            "QueueDequeueManyV2 QueueDequeue Unstage",
            "QueueEnqueueV2 QueueSizeV2",
        ),
        (
            op_traits.takes_from_iterator,
            "IteratorGetNext IteratorGetNextSync",
            "IteratorV2 MakeIterator",
        ),
        (op_traits.takes_from_reader, "ReaderReadV2 ReaderReadUpTo", "ReadFile ReaderResetV2"),
    ],
)
def test_trait_of_known_operations_tells_them_apart(
    trait: Callable[[OpDef], bool], having: str, lacking: str
) -> None:
    assert [name for name in having.split() if not trait(_definition(name))] == []
    assert [name for name in lacking.split() if trait(_definition(name))] == []


@pytest.mark.parametrize(
    ("op_type", "position"),
    [
        ("ApplyGradientDescent", 2),
        ("ApplyAdam", 9),
        ("ResourceSparseApplyAdagrad", 3),
        ("Assign", None),
    ],
)
def test_gradient_input_of_update_is_its_position(op_type: str, position: int | None) -> None:
    assert op_traits.gradient_input(_definition(op_type)) == position
