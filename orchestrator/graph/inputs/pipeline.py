"""Which input pipelines does a graph hold, and what is each made of?

Rule: one pipeline for every iterator and for every queue that the rest of the graph takes batches
from; a queue that only fills another queue belongs to that one. Described from protos alone,
function bodies included (``describe``); what is read, run and fed is named, whether it
still works is another question (``diagnosis``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.graph.worker_graph import Shape

Kind = Literal["iterator", "queue"]
Role = Literal["function", "generator-start", "generator-next", "generator-end"]


@dataclass(frozen=True)
class Output:
    """A tensor through which batches leave a pipeline, with its static type and shape."""

    tensor: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class PipelineStage:
    """One dataset operation, queue or reader of a pipeline.

    Attributes:
        op, node: its type, and its name as messages show it (with its function, where it stands in
            one).
        inside: dataset operations within the functions that it calls, such as the reader of an
            interleave.
    """

    op: str
    node: str
    inside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """The files that one operation of a pipeline reads.

    Attributes:
        reader, node: the operation that reads, and its name.
        names: file names or patterns as far as constants tell; empty where they don't.
        origin: ``constant``; ``pattern`` (matched when the pipeline starts); ``placeholder``;
            ``computed`` by operations.
        placeholders: what would have to be fed for ``placeholder``.
    """

    reader: str
    node: str
    names: tuple[str, ...]
    origin: Literal["constant", "pattern", "placeholder", "computed"]
    placeholders: tuple[str, ...] = ()


@dataclass(frozen=True)
class PythonCall:
    """A ``py_func``: a call of a Python function that lived in the process which built the graph.

    Attributes:
        token: under which that process had registered it.
        role: ``function``, or which of the three callbacks of ``Dataset.from_generator``.
        takes, gives: the dtypes of its arguments and of what it returns; shapes aren't recorded.
        eager: it's an EagerPyFunc, which takes and gives TensorFlow's eager tensors.
        generator: node of the GeneratorDataset that the three callbacks belong to.
    """

    token: str
    node: str
    role: Role
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    eager: bool = False
    generator: str = ""


@dataclass(frozen=True)
class Pipeline:
    """One input pipeline.

    Attributes:
        name: the iterator's or queue's node.
        outputs: what the rest of the graph takes out of it.
        takers: the GetNext and Dequeue nodes.
        stages: from the source to the batch.
        embedded_bytes: size of the arrays that stand inside the graph as the pipeline's source.
        placeholders: (name, dtype, shape) of the graph's placeholders that feed it.
        starters: MakeIterator nodes of an iterator, enqueue operations of a queue. A one-shot
            iterator has none.
        inner_queues: queues that only fill this one.
        unseeded: shuffles that draw another order in every process.
        endless: it repeats without end, as far as constants tell.
        handle: the iterator is named by a string handle that some process has to feed.
        functions: the functions of the library that it can call.
    """

    name: str
    kind: Kind
    op: str
    outputs: tuple[Output, ...]
    takers: tuple[str, ...]
    stages: tuple[PipelineStage, ...] = ()
    files: tuple[Files, ...] = ()
    calls: tuple[PythonCall, ...] = ()
    embedded_bytes: int = 0
    placeholders: tuple[tuple[str, str, Shape], ...] = ()
    starters: tuple[str, ...] = ()
    inner_queues: tuple[str, ...] = ()
    unseeded: tuple[str, ...] = ()
    endless: bool = False
    handle: bool = False
    functions: tuple[str, ...] = ()

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of all Python functions that it calls, each once."""
        return tuple(dict.fromkeys(call.token for call in self.calls))

    @property
    def summary(self) -> str:
        """The way of a batch in one line: ``TextLineDataset > ShuffleDataset > BatchDataset``."""
        return " > ".join(
            f"{stage.op}({', '.join(stage.inside)})" if stage.inside else stage.op
            for stage in self.stages
        )
