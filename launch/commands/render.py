"""The command ``render``: Kubernetes manifests from the run's own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from launch.commands.options import Looks
from launch.commands.run_options import Config, Run
from launch.flags import RunFlags, given, merged, read_config_file
from launch.render.code import with_code
from launch.render.overlays import with_overlays
from launch.render.refusals import refuse_deployment, refuse_unfinished
from launch.render.spec import BASE, DATA_PATH, IMAGE, Deployment, Kind
from launch.standard_output import write_answer
from launch.terminal import EXIT_DONE, print_json
from orchestrator.errors import ConfigError, OutputError

CLUSTER = Group("The cluster", sort_key=90)


@Parameter(name="*", group=CLUSTER)
@dataclass(frozen=True)
class ManifestValues:
    """What only the owner of a cluster knows; each is left out of the manifests where it isn't
    given.
    """

    gpu_type: Annotated[
        str, Parameter(help="Kind of GPU, as the nodes' label has it: nvidia-l4 on GKE.")
    ] = ""
    node_selector: Annotated[
        list[str],
        Parameter(
            negative_iterable=(), help="LABEL=VALUE of the workers' nodes; repeat for more of them."
        ),
    ] = field(default_factory=list)
    priority_class: Annotated[str, Parameter(help="Priority class of the run's Pods.")] = ""
    storage_class: Annotated[str, Parameter(help="Storage class of the claims that are made.")] = ""
    claim: Annotated[str, Parameter(help="Claim that is there already; with the pvc overlay.")] = ""
    data_path: Annotated[str, Parameter(help="Where the pvc overlay mounts its claim.")] = DATA_PATH
    identity: Annotated[
        str,
        Parameter(
            help="Google service account, AWS role (ARN) or Azure client id that the Pods act as."
        ),
    ] = ""
    region: Annotated[str, Parameter(help="AWS region of the bucket.")] = ""
    account: Annotated[str, Parameter(help="Azure storage account.")] = ""
    queue: Annotated[str, Parameter(help="Kueue's local queue; implies the kueue overlay.")] = ""


def render(
    source: str | None = None,
    /,
    *,
    run: Run = RunFlags(),  # noqa: B008  frozen
    config: Config = None,
    overlay: Annotated[
        list[str] | None,
        Parameter(
            negative_iterable=(),
            help="cpu or gpu; spot, spot-eks or spot-aks; gcs, s3, azure or pvc; kueue; monitoring. Repeat to combine.",
        ),
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
    values: ManifestValues = ManifestValues(),
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
            --until-step 20000 --input my_inputs.py:batches --to run.yaml
        tfresume render --kind cluster --overlay cpu --config configs/cluster-cpu.yaml
            gs://b/run --output gs://b/more | kubectl apply -f -

    Takes the flags of `resume`; `workers` sizes the groups of nodes. Without a
    SOURCE the names to be replaced stand in its place. What `--input` names and
    this directory holds travels as a ConfigMap; else the image has to hold it.

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
    names = [*(overlay or ()), *(["kueue"] if values.queue else ())]
    asked, code = with_code(asked, Path.cwd(), values.data_path if "pvc" in names else None)
    base = BASE.model_copy(
        update={
            "kind": kind,
            "name": name,
            "namespace": namespace,
            "image": image,
            "data_path": values.data_path,
        }
    )
    deployment = _with_values(with_overlays(base, names), values, bool(asked.get("source")))
    _answer(checked(_with_users_run(deployment, asked, code)), to, looks)
    return EXIT_DONE


def _with_values(deployment: Deployment, values: ManifestValues, is_of_a_run: bool) -> Deployment:
    """What was given, in place of the names to be replaced; of a run those that weren't are left
    out, so that its manifests can be applied as they are.
    """
    known = {
        name: value
        for name, value in vars(values).items()
        if name not in ("node_selector", "data_path") and (value or is_of_a_run)
    }
    if deployment.queue and not values.queue:
        if is_of_a_run:
            raise ConfigError(
                "the kueue overlay needs the name of a queue",
                remedy="Name the local queue: --queue NAME",
            )
        known.pop("queue", None)
    selector = dict(_pair(item) for item in values.node_selector)
    return deployment.model_copy(update={**known, "node_selector": selector})


def _pair(text: str) -> tuple[str, str]:
    label, equals, value = text.partition("=")
    if not (label and equals and value):
        raise ConfigError(
            f"--node-selector {text!r} isn't of the form LABEL=VALUE",
            remedy="Write --node-selector LABEL=VALUE, once for each label",
        )
    return label, value


def _answer(deployment: Deployment, to: Path | None, looks: Looks) -> None:
    from launch.render.kustomize import stream
    from launch.render.manifests import manifests

    if looks.json:
        print_json({"objects": manifests(deployment)})
    elif to is not None:
        _write_all(to.parent, {to.name: stream(deployment)})
    else:
        write_answer(stream(deployment))


def _with_users_run(
    deployment: Deployment, run: dict[str, Any], code: dict[str, str]
) -> Deployment:
    """What the user asks of the run beats what base and overlays suggest."""
    if not run:
        return deployment
    run = _counted(run)
    settings = merged(merged(deployment.settings, run), {"address": "auto"})
    settings["workers"] = _fitting(settings["workers"], run.get("workers") or {})
    return deployment.model_copy(update={"run": settings, "sizing": {}, "riding": {}, "code": code})


def _fitting(workers: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds that an overlay suggests give way to a number of workers that was asked for."""
    bounds = {}
    if "max" not in asked and workers.get("max") is not None:
        bounds["max"] = max(workers["max"], workers["count"])
    if "min" not in asked and workers.get("min") is not None:
        bounds["min"] = min(workers["min"], workers["count"])
    return {**workers, **bounds}


def _counted(run: dict[str, Any]) -> dict[str, Any]:
    workers = run.get("workers")
    return {**run, "workers": {"count": workers}} if isinstance(workers, int) else run


def checked(deployment: Deployment) -> Deployment:
    """The deployment, if its run is valid and no rule of the operator is broken.

    Raises:
        ConfigError: with every broken rule, or what can't work together.
    """
    from launch.render.manifests import manifests
    from launch.render.rules import violations

    refuse_deployment(deployment)
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
