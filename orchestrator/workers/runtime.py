"""How does the worker's loop get TensorFlow, batches and storage?

Rule: the only module of this room that imports ``training``, and only inside the actor's process.
The start checkpoint is fetched while TensorFlow is being imported.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from orchestrator.decide.outliers import Size
from orchestrator.errors import OutputError
from orchestrator.store.objects.content import Content
from orchestrator.store.objects.traffic import MOVED
from orchestrator.workers.orders import CheckpointFiles, JoinOrder, Setup
from orchestrator.workers.runtime_protocol import (
    Batches,
    TrainerLike,
    WrittenFiles,
    WrittenPart,
)


def this_node() -> str:
    """The node that this process runs on, for people and rules: its address and the beginning of
    Ray's identity for it.
    """
    import ray.util

    return f"{ray.util.get_node_ip_address()}/{ray.get_runtime_context().get_node_id()[:8]}"


def these_gpus() -> tuple[str, ...]:
    """The GPUs that Ray gave this process."""
    import ray

    return tuple(
        str(item) for item in ray.get_runtime_context().get_accelerator_ids().get("GPU", ())
    )


class RealTools:
    """``tools.Tools`` on TensorFlow and storage."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._trainer: Any = None
        self._pool = ThreadPoolExecutor(1, "tfresume-stage")
        self._staging: dict[str, Future[str]] = {}
        # Of divided tables nothing may come to this disk as a whole
        if setup.start is not None and not (setup.graph.tables or setup.start.links):
            self._staging[setup.start.prefix] = self._stage(setup.start)

    def load(self) -> TrainerLike:
        import ray.util

        from orchestrator.training.trainer import Trainer

        options = replace(self._setup.options, host=ray.util.get_node_ip_address())
        self._trainer = Trainer(self._setup.graph, options, self._setup.secret)
        trainer: TrainerLike = self._trainer
        return trainer

    def group(self, order: JoinOrder) -> Any:
        from orchestrator.training.engine.gpu import take_devices
        from orchestrator.training.engine.options import GroupSpec

        if order.devices:
            take_devices(order.devices)
        return GroupSpec(
            order.generation, order.rank, order.world_size, order.addresses, order.position
        )

    def checkpoint_state(self, checkpoint: CheckpointFiles, share: tuple[int, int]) -> Any:
        tables = self._setup.graph.tables
        state = self._of_rank(checkpoint, share) if tables else self._whole(checkpoint)
        return state if self._setup.graph.step is not None else replace(state, step=checkpoint.step)

    def _of_rank(self, checkpoint: CheckpointFiles, share: tuple[int, int]) -> Any:
        """What isn't of divided tables, by way of this disk; of those the rank's rows, from where
        they lie.
        """
        from orchestrator.store.bundle.folded import Folded
        from orchestrator.store.bundle.stored_index import stored_index
        from orchestrator.store.objects.private import scratch
        from orchestrator.store.transfer.some_tensors import fetch_tensors
        from orchestrator.training.state.table_blocks import StoredRows, keys_of_rest

        graph = self._setup.graph
        folded = Folded.of(checkpoint.links) if checkpoint.links else None
        index = stored_index(checkpoint.files) if folded is None else folded.index
        loading = graph.loading if checkpoint.of_source else graph.loading.of_own()
        with scratch("restore") as room:
            prefix = room / PurePosixPath(checkpoint.prefix).name
            keys = keys_of_rest(graph, index, loading)
            if folded is None:
                fetch_tensors(index, checkpoint.files, keys, prefix)
            else:
                folded.write(prefix, keys)
            return self._trainer.load_checkpoint(
                str(prefix),
                init_missing=self._setup.config.init_missing,
                of_source=checkpoint.of_source,
                rows=StoredRows(index, checkpoint.files, share, folded),
            )

    def _whole(self, checkpoint: CheckpointFiles) -> Any:
        if checkpoint.links:
            return self._of_chain(checkpoint)
        # Asked for once more it's looked at once more: what failed may work now
        prefix = (self._staging.pop(checkpoint.prefix, None) or self._stage(checkpoint)).result()
        return self._trainer.load_checkpoint(
            prefix,
            init_missing=self._setup.config.init_missing,
            of_source=checkpoint.of_source,
        )

    def _of_chain(self, checkpoint: CheckpointFiles) -> Any:
        """What some saves come to, put together on this disk: tables are whole here."""
        from orchestrator.store.bundle.folded import Folded
        from orchestrator.store.objects.private import scratch

        folded = Folded.of(checkpoint.links)
        with scratch("restore") as room:
            prefix = room / PurePosixPath(checkpoint.prefix).name
            folded.write(prefix, folded.index.entries)
            return self._trainer.load_checkpoint(
                str(prefix),
                init_missing=self._setup.config.init_missing,
                of_source=checkpoint.of_source,
            )

    def import_input(self) -> None:
        from orchestrator.training.importing.user_code import load_function

        # NumPy imports it at its first use, which would be in the middle of a take-over: 80 ms
        importlib.import_module("numpy.random")
        # A module may look for GPUs when it's imported, and a standby has none yet
        if self._setup.config.input and not self._setup.options.gpu:
            load_function(self._setup.config.input)

    def batches(self, order: JoinOrder) -> Batches:
        from orchestrator.training.inputs.feeds import FeedContext, open_batches

        context = FeedContext(
            rank=order.rank, world_size=order.world_size, step=order.step, position=order.position
        )
        stream: Batches = open_batches(
            self._setup.config, self._setup.graph, context, self._trainer
        )
        if self._setup.config.on_resize == "scale_lr" and self._setup.config.scale_lr_feed:
            slots = self._setup.options.batches_per_step
            return ScaledRate(
                stream, self._setup.config.scale_lr_feed, slots / self._setup.first_batches_per_step
            )
        return stream

    def digests(self, state: Any) -> Mapping[str, int]:
        from orchestrator.training.state.moved_rows import block_checksums
        from orchestrator.training.state.state import checksums

        graph = self._setup.graph
        local = frozenset(variable.name for variable in graph.variables if variable.local)
        whole = checksums(state, without=local | graph.tables.members)
        return {**whole, **block_checksums(state, graph.tables)}

    def nonfinite(self, state: Any) -> tuple[str, ...]:
        from orchestrator.training.state.state import nonfinite

        return nonfinite(state)

    def sizes(self, state: Any) -> Mapping[str, Size]:
        from orchestrator.training.state.sizes import sizes

        # Some rows of a variable aren't as large as all of it
        some = state.changed or {}
        arrays = {name: array for name, array in state.arrays.items() if name not in some}
        return sizes(replace(state, arrays=arrays), self._setup.graph.variables)

    def write(self, state: Any, directory: str, again: int | None) -> WrittenFiles:
        from orchestrator.store.objects.layout import checkpoint_name
        from orchestrator.store.transfer.upload import upload
        from orchestrator.training.state.bundle_writer import bundle_contents

        prefix = checkpoint_name(self._setup.name, state.step, again)
        contents = bundle_contents(state, self._setup.graph, prefix)
        records = upload(contents, self._setup.output.child(directory))
        return WrittenFiles(directory, prefix, records)

    def own_part(self, state: Any, rank: int, ranks: int) -> Any:
        from orchestrator.training.state.bundle_writer import own_part

        return own_part(state, self._setup.graph, rank, ranks)

    def write_part(
        self, own: Any, directory: str, again: int | None, part: tuple[int, int]
    ) -> WrittenPart:
        from orchestrator.store.objects.layout import CHANGED_SUFFIX, checkpoint_name
        from orchestrator.store.transfer.part_files import send_part
        from orchestrator.store.transfer.upload import upload
        from orchestrator.training.engine import host_memory
        from orchestrator.training.state.bundle_writer import meta_content, part_bundle

        graph, rank = self._setup.graph, part[0]
        if graph.tables and own.share != part:
            held, asked = (f"rank {rank} of {ranks}" for rank, ranks in (own.share, part))
            raise OutputError(
                f"this worker holds its rows as {held}, and is to write them as {asked}",
                remedy="Nothing was saved; the next save tries again",
            )
        prefix = checkpoint_name(self._setup.name, own.step, again)
        prefix += CHANGED_SUFFIX if own.changed is not None else ""
        bundle = part_bundle(own, graph, prefix, part)
        files: list[Content] = [bundle.data()]
        if rank == 0 and own.changed is None:  # the full save that it stands on has the graph
            files.append(meta_content(graph, prefix))
        # Beside rows of tables there's little memory to spare
        send = send_part if graph.tables else upload
        records = send(files, self._setup.output.child(directory))
        if own.live is not None:
            host_memory.give_back()  # what the sending took: there's little to spare
        return WrittenPart(directory, prefix, records, rank, bundle.report())

    def moved_bytes(self) -> int:
        return MOVED.size_bytes

    def processor_s(self) -> float:
        return time.process_time()

    def _stage(self, checkpoint: CheckpointFiles) -> Future[str]:
        from orchestrator.store.objects.private import private_directory
        from orchestrator.store.transfer.staging import stage

        return self._pool.submit(
            lambda: str(stage(checkpoint.files, private_directory("tfresume-cache")))
        )


class ScaledRate:
    """Batches whose learning rate follows the number of batches in a step."""

    def __init__(self, stream: Batches, tensor: str, factor: float) -> None:
        self._stream, self._tensor, self._factor = stream, tensor, factor

    def take(self, count: int) -> Sequence[Mapping[str, Any]]:
        return [
            {**feeds, self._tensor: feeds[self._tensor] * self._factor}
            for feeds in self._stream.take(count)
        ]

    def applied(self) -> None:
        self._stream.applied()

    def close(self) -> None:
        self._stream.close()
