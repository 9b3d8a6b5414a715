"""The command ``render``: Kubernetes manifests from the run's own configuration."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.commands.run import Config, Run
from launch.flags import RunFlags, given, merged, read_config_file
from launch.render.spec import BASE, IMAGE, Deployment, Kind, with_overlays
from launch.terminal import EXIT_DONE, print_json
from orchestrator.decide.last_step import last_step
from orchestrator.errors import ConfigError, OutputError


def render(
    source: str | None = None,
    /,
    *,
    run: Run = RunFlags(),  # noqa: B008  frozen
    config: Config = None,
    overlay: Annotated[
        list[str] | None,
        Parameter(negative_iterable=(), help="cpu, gpu, spot, gcs or s3; repeat to combine."),
    ] = None,
    kind: Annotated[
        Kind,
        Parameter(
            help="`job`: a RayJob that runs and goes away; `cluster`: a RayCluster that stays."
        ),
    ] = "job",
    name: Annotated[str, Parameter(help="Name of all objects.")] = "tfresume",
    namespace: Annotated[str, Parameter(help="Kubernetes namespace.")] = "train",
    image: Annotated[
        str,
        Parameter(help="Container image with a pinned tag (`-gpu` is added by the gpu overlay)."),
    ] = IMAGE,
    to: Annotated[
        Path | None, Parameter(help="Write into this file instead of standard output.")
    ] = None,
    tree: Annotated[
        Path | None,
        Parameter(help="Write the whole kustomize tree, as in k8s/, into this directory."),
    ] = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Write Kubernetes manifests for a run.

    For example:

        tfresume render --overlay gpu --overlay gcs gs://b/run --output gs://b/more
            --until-step 20000 --input my_inputs:batches --to run.yaml
        tfresume render --kind cluster --overlay cpu --config configs/cluster-cpu.yaml
            gs://b/run --output gs://b/more | kubectl apply -f -

    Takes the flags of `resume`; `workers` sizes the groups of nodes. Without a
    SOURCE the names to be replaced stand in its place. The image has to hold
    the input function: `--input` names a module that is installed there.

    Args:
        source: A .meta URL, a checkpoint prefix or a directory.
    """
    from launch.render.kustomize import tree as kustomize_tree

    if tree is not None:
        _write_all(tree, kustomize_tree())
        return EXIT_DONE
    asked = merged(
        read_config_file(config) if config else {},
        given(run) | ({"source": source} if source is not None else {}),
    )
    refuse_unfinished(asked)
    base = BASE.model_copy(
        update={"kind": kind, "name": name, "namespace": namespace, "image": image}
    )
    _answer(checked(_with_users_run(with_overlays(base, tuple(overlay or ())), asked)), to, looks)
    return EXIT_DONE


def _answer(deployment: Deployment, to: Path | None, looks: Looks) -> None:
    from launch.render.kustomize import stream
    from launch.render.manifests import manifests

    if looks.json:
        print_json({"objects": manifests(deployment)})
    elif to is not None:
        _write_all(to.parent, {to.name: stream(deployment)})
    else:
        sys.stdout.write(stream(deployment))


def refuse_unfinished(asked: Mapping[str, Any]) -> None:
    """Refuse to write manifests of a run that would be refused once it's there; without a source
    there's no run yet, only its frame.

    Raises:
        ConfigError: it lacks an output or an end, or takes its input from a file that no Pod has.
    """
    if not asked.get("source"):
        return
    if not asked.get("output"):
        raise ConfigError(
            "--output is missing", remedy="Name the directory URL for the checkpoints to come"
        )
    last_step(asked.get("until_step"), asked.get("steps"), 0)
    if str(asked.get("input") or "").rpartition(":")[0].endswith(".py"):
        raise ConfigError(
            f"--input {asked['input']}: no Pod has that file",
            remedy="Install its module into the image and write MODULE:FUNCTION",
        )


def _with_users_run(deployment: Deployment, run: dict[str, Any]) -> Deployment:
    """What the user asks of the run beats what base and overlays suggest."""
    return deployment.model_copy(
        update={"run": merged(merged(deployment.run, _counted(run)), {"address": "auto"})}
    )


def _counted(run: dict[str, Any]) -> dict[str, Any]:
    workers = run.get("workers")
    return {**run, "workers": {"count": workers}} if isinstance(workers, int) else run


def checked(deployment: Deployment) -> Deployment:
    """The deployment, if its run is valid and no rule of the operator is broken.

    Raises:
        ConfigError: with every broken rule.
    """
    from launch.render.manifests import manifests
    from launch.render.rules import violations

    found = violations(manifests(deployment))
    if found:
        raise ConfigError(
            "the manifests would be refused: " + "; ".join(found),
            remedy="Change the flags that the message names",
        )
    return deployment


def _write_all(directory: Path, files: dict[str, str]) -> None:
    try:
        for path, text in files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError.from_cause(
            f"can't write below {directory}", error, remedy="Name a directory that you may write to"
        ) from error
