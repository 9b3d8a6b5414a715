"""What is to be trained, from where, and up to which step?

Rule: everything that can be wrong with the command is found here, before a worker is started or
anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.config import AUTO, RunConfig
from orchestrator.decide.last_step import last_step
from orchestrator.decide.policy import Policy
from orchestrator.decide.save_policy import SavePolicy
from orchestrator.decide.scaling import Sizes
from orchestrator.driver.chosen_graph import chosen_graph, keep_collections
from orchestrator.driver.edited_graph import edited_graph
from orchestrator.driver.exchange_choice import exchange_of, recovers_in_place
from orchestrator.driver.free_memory import free_memory
from orchestrator.driver.refusals import check_end, saves_changed_rows
from orchestrator.driver.slots import Slots, fitting, scale_of
from orchestrator.errors import ConfigError
from orchestrator.graph.graphdef.meta import read_meta
from orchestrator.graph.variables.alike import alike_sizes
from orchestrator.graph.variables.fit import are_lacking
from orchestrator.graph.worker_graph import WorkerGraph
from orchestrator.store.bundle.scalars import read_counter
from orchestrator.store.checkpoints.chain_source import newest_state
from orchestrator.store.checkpoints.chains import MAX_LINKS
from orchestrator.store.checkpoints.run_checkpoints import Checkpoint
from orchestrator.store.checkpoints.source import (
    Source,
    named_source,
    newest_source,
    resolve_source,
    source_fingerprint,
)
from orchestrator.store.objects.location import Location, open_location
from orchestrator.store.run.apart import refuse_common_place
from orchestrator.store.run.run_record import RunRecord, check_same_source
from orchestrator.training.engine.options import TrainingOptions
from orchestrator.training.inputs.preflight import preflight
from orchestrator.workers.orders import CheckpointFiles, Setup


@dataclass(frozen=True)
class StartPoint:
    """Where a run goes on.

    Attributes:
        source: the checkpoint to start from: the output's newest good one, else the one that was
            named.
        fingerprint: of the source that was named.
        own_label: the checkpoint's label below the output, None where it's the source's.
        parent: (attempt, generation) of that checkpoint, (0, 0) for the source's.
        step: its global step; for a stranger's checkpoint the number in its name until ``counted``
            has asked the graph.
        until: the step at which the run ends; reckoned from ``step`` like that at the run's first
            start.
        started_step: the step at the run's first start.
    """

    source: Source
    fingerprint: str
    named: str
    step: int
    started_step: int
    until: int
    own_label: str | None
    parent: tuple[int, int]
    warnings: tuple[str, ...]


def start_point(config: RunConfig, output: Location, record: RunRecord | None) -> StartPoint:
    """Look into the output first, then at the source.

    Raises:
        SourceError, CorruptCheckpoint: nothing usable was named.
        OutputError: the output belongs to another source, or lies in this one; names both.
        ConfigError: no end was given.
    """
    check_end(config)
    named = resolve_source(named_source(config))
    refuse_common_place(output, open_location(config.source), named.place)
    fingerprint = source_fingerprint(named)
    ours: Source | None = None
    parent, label = (0, 0), None
    if record is not None:
        check_same_source(output, record, named.url, fingerprint)
        ours, newest = _newest(config, output, record)
        if newest is not None:
            made_by = newest.generation_id
            parent, label = (made_by.attempt, made_by.generation), newest.label
    source = ours if ours is not None else named
    step = step_of(source)
    started = record.started_step if record is not None else step
    until = last_step(config.until_step, config.steps, started)
    refused = tuple(f"{item.checkpoint} was passed over: {item.reason}" for item in source.refused)
    return StartPoint(
        source,
        fingerprint,
        named.name,
        step,
        started,
        until,
        label,
        parent,
        (*source.notes, *refused),
    )


def _newest(
    config: RunConfig, output: Location, record: RunRecord
) -> tuple[Source | None, Checkpoint | None]:
    """What the run has saved last. A run that has reached its end ends with a checkpoint that plain
    TensorFlow reads: where only changed rows are that far, its last steps are taken once more.
    """
    until = last_step(config.until_step, config.steps, record.started_step)
    ours, newest = newest_state(output)
    if ours is not None and newest is not None and ours.links and newest.step >= until:
        ours, found = newest_source(output)
        newest = found.checkpoint
    return ours, newest


def counted(
    config: RunConfig, start: StartPoint, plan: Plan, record: RunRecord | None
) -> StartPoint:
    """The same start point by the graph's own counter, which may differ from the number in the
    file's name.
    """
    started = record.started_step if record is not None else plan.step
    return replace(
        start,
        step=plan.step,
        started_step=started,
        until=last_step(config.until_step, config.steps, started),
    )


def step_of(source: Source) -> int:
    """The global step of a checkpoint, as far as it can be told without the graph."""
    if source.manifest is not None:
        return source.manifest.step
    return source.step if source.step is not None else source.step_in_name or 0


@dataclass(frozen=True)
class Plan:
    """The graph as the workers get it, and the step that its own counter has in the checkpoint.

    Attributes:
        is_completed: the checkpoint lacks variables, or may lack rows of some, which initialisers make.
    """

    graph: WorkerGraph
    step: int
    step_key: str | None
    warnings: tuple[str, ...]
    is_completed: bool = False


def make_plan(config: RunConfig, start: StartPoint) -> Plan:
    """Plan the training of the graph. Raises GraphRefused with every reason at once."""
    source = start.source
    saved = chosen_graph(
        read_meta(source.meta_data, name=source.meta.shown),
        config.meta,
        of_this_run=start.own_label is not None,
    )
    edited = edited_graph(saved, config, source.keys(), of_this_run=start.own_label is not None)
    report = preflight(
        *(edited.meta, config),
        checkpoint=edited.checkpoint,
        # Whether a state fits is asked here only where that decides something
        memory=free_memory(config) if AUTO in config.shard_tables else None,
        also=edited.problems,
        loading=edited.loading,
    )
    report.refuse(source.meta.shown)
    graph = report.plan.worker_graph
    assert graph is not None
    graph = edited.told_in(keep_collections(graph, edited.saved, config))
    key, loading = step_key_of(graph), edited.loading
    step = start.step if loading.step is None else loading.step
    if loading.step is None and source.manifest is None and key is not None:
        step = _counted_by(source, loading.stored(key), step)
    warnings = tuple(f"{item.message}" for item in report.problems if item.severity == "warning")
    is_lacking = bool(loading.grown) or are_lacking(graph.variables, edited.checkpoint)
    return Plan(graph, step, key, warnings, is_lacking)


def _counted_by(source: Source, key: str, otherwise: int) -> int:
    """What the graph's own counter says in the checkpoint."""
    value = None if source.index is None else read_counter(source.index, source.files, key)
    return otherwise if value is None else value


def step_key_of(graph: WorkerGraph) -> str | None:
    """The key under which the graph's step is saved; None where it counts none."""
    if graph.step is None:
        return None
    return next(
        (variable.key for variable in graph.variables if variable.name == graph.step.variable), None
    )


def policy_of(config: RunConfig, graph: WorkerGraph, until: int, slots: int | None) -> Policy:
    """What the rules need of the configuration.

    Args:
        slots: batches in a step, None where each member computes one.
    """
    workers = config.workers
    alone = bool(graph.group_refused)
    if alone and workers.count > 1:
        raise ConfigError(
            f"this graph trains on one worker only: {graph.group_refused}", remedy="Use --workers 1"
        )
    sizes = Sizes(
        workers.count,
        max(workers.smallest, graph.tables.fewest),
        1 if alone else workers.largest,
        workers.standby,
        config.on_loss,
        config.on_resize,
    )
    saving = SavePolicy(
        config.save_steps,
        config.save_every_s,
        config.save_policy,
        config.max_failed_saves,
        config.on_nonfinite,
        config.on_outlier,
        config.outlier_factor,
        in_parts=bool(graph.tables),
        alike=tuple(alike_sizes(graph).values()),
        most_links=MAX_LINKS if saves_changed_rows(config, graph) else 0,
    )
    return Policy(
        fitting(sizes, slots),
        saving,
        until,
        hang_floor_s=config.hang_floor_s,
        wait_s=config.wait_s,
        batch_size=config.batch_size,
        max_losses_per_hour=config.max_losses_per_hour,
        batches_per_step=slots,
        batches_per_slot=graph.batches_per_slot,
        table_copies=graph.tables.copies,
        in_place=recovers_in_place(exchange_of(config)),
        peers_tell=not config.workers.gpus,
    )


def setup_of(
    config: RunConfig,
    graph: WorkerGraph,
    output: Location,
    record: RunRecord,
    files: CheckpointFiles,
    slots: Slots,
    secret: bytes,
) -> Setup:
    """What every worker is made with."""
    workers = config.workers
    options = TrainingOptions(
        exchange=exchange_of(config),
        batches_per_step=slots.most,
        gradient_scale=scale_of(config, record),
        changed_rows=config.save_changed_rows,
        seed=config.seed,
        deterministic=config.deterministic,
        max_world_size=1 if graph.group_refused else workers.largest,
        gpu=workers.gpus > 0,
        gpu_memory_fraction=workers.gpus if 0 < workers.gpus < 1 else None,
        reserved_bytes=workers.memory_bytes or None,
        import_modules=tuple(config.import_modules),
        load_op_library=tuple(config.load_op_library),
        py_func=dict(config.py_func),
    )
    return Setup(
        graph,
        options,
        config,
        output,
        record.name,
        files,
        config.orphan_timeout_s,
        slots.first,
        secret,
    )
