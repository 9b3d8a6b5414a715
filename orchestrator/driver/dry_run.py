"""What would ``resume`` do, if it were started now?

Rule: the driver's own first half (look, plan), up to where workers would be placed; nothing is
started and nothing is written, the lease isn't taken. What it refuses, ``resume`` refuses.
"""

from __future__ import annotations

from typing import Any

from orchestrator.config import RunConfig
from orchestrator.driver.refusals import refuse
from orchestrator.driver.slots import as_recorded
from orchestrator.driver.startup import counted, make_plan, start_point
from orchestrator.errors import ConfigError
from orchestrator.graph.worker_graph import InputPort
from orchestrator.store.objects.location import open_location
from orchestrator.store.run.run_record import read_run_record


def dry_run(config: RunConfig) -> dict[str, Any]:
    """The plan of a run as plain data.

    Returns:
        source, output, goes_on (the output holds this run already), checkpoint (from which it would
        go on), start_step, until_step, train_ops, inputs, exchange (how many gradients),
        one_worker_only (why, or empty), workers, save, warnings.

    Raises:
        ConfigError: and its subclasses, as ``resume`` would.
        StorageUnavailable: source or output don't answer.
    """
    if not config.output:
        raise ConfigError(
            "--output is missing", remedy="Name the directory URL for the checkpoints to come"
        )
    refuse(config)
    output = open_location(config.output)
    record = read_run_record(output)
    start = start_point(config, output, record)
    plan = make_plan(as_recorded(config, record), start)
    start = counted(config, start, plan, record)
    graph = plan.graph
    checkpoint = start.source.prefix
    assert checkpoint is not None  # a run starts from one
    return {
        "source": start.source.url,
        "output": output.shown,
        "goes_on": record is not None,
        "checkpoint": checkpoint.shown,
        "start_step": plan.step,
        "until_step": start.until,
        "train_ops": [target.op for target in graph.targets],
        "inputs": [
            {
                "name": port.name,
                "dtype": port.dtype,
                "shape": port.shape,
                "origin": port.origin,
                "served_by": _served_by(port, config),
            }
            for port in graph.inputs
        ],
        "exchange": sum(len(target.dense) + len(target.sparse) for target in graph.targets),
        "one_worker_only": graph.group_refused,
        "workers": config.workers.model_dump(),
        "save": {"steps": config.save_steps, "seconds": config.save_every_s},
        "warnings": [*start.warnings, *plan.warnings],
    }


def _served_by(port: InputPort, config: RunConfig) -> str:
    if port.pull is not None:
        return "the graph's own pipeline"
    if port.name in config.feed:
        return "feed"
    if port.name in config.array:
        return "array"
    return "input" if config.input else "its default" if port.optional else "nothing"
