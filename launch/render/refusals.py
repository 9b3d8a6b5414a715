"""Would a run that is rendered be refused, or wait for ever, once it's there?

Rule: what can be told from the run's settings and the chosen overlays alone is told before anything
is applied; what follows from the objects themselves stands in `launch.render.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from launch.render.pods import CODE_PATH
from launch.render.rules import why_no_name
from launch.render.spec import DATA_PATH, Deployment
from orchestrator.decide.last_step import last_step
from orchestrator.errors import ConfigError

_SCHEMES = {
    "gcs": ("gs", "gcs"),
    "s3": ("s3", "s3a"),
    "azure": ("az", "abfs", "abfss", "adl"),
}
_PATHS = ("source", "output", "meta")
_PATHS_BY_NAME = ("array", "path_map")


def refuse_unfinished(asked: Mapping[str, Any]) -> None:
    """Refuse to write manifests of a run that would be refused once it's there; without a source
    there's no run yet, only its frame.

    Raises:
        ConfigError: it lacks an output or an end.
    """
    if not asked.get("source"):
        return
    if not asked.get("output"):
        raise ConfigError(
            "--output is missing", remedy="Name the directory URL for the checkpoints to come"
        )
    last_step(asked.get("until_step"), asked.get("steps"), 0)


def refuse_deployment(deployment: Deployment) -> None:
    """Refuse what can't work together.

    Raises:
        ConfigError: a name that Kubernetes refuses, GPUs without Pods that have any, a URL of another store than the overlay gives
            rights to, a path that no Pod has, values that nothing uses.
    """
    for flag, name in (("--name", deployment.name), ("--namespace", deployment.namespace)):
        if why := why_no_name(flag.removeprefix("--"), name):
            raise ConfigError(f"{flag}: {why}", remedy=f"Give another {flag}")
    config = deployment.config
    if config.workers.gpus and not deployment.gpu:
        raise ConfigError(
            f"each worker asks for {config.workers.gpus:g} GPUs, and no Pod of these manifests has one",
            remedy="Add --overlay gpu, or leave --workers.gpus out",
        )
    if deployment.gpu and not config.workers.gpus:
        raise ConfigError(
            "the gpu overlay reserves GPUs, and the workers ask for none",
            remedy="Give --workers.gpus 1, or take --overlay cpu",
        )
    for key, url in _urls(deployment.settings):
        _refuse_url(deployment, key, url)
    for name, used in _values(deployment):
        if not used:
            raise ConfigError(
                f"nothing in these manifests uses {name}",
                remedy="Leave it out, or add the overlay that takes it",
            )


def _urls(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in _PATHS:
        if settings.get(key):
            yield f"--{key}" if key != "source" else "SOURCE", str(settings[key])
    for key in _PATHS_BY_NAME:
        for value in (settings.get(key) or {}).values():
            yield f"--{key.replace('_', '-')}", str(value).partition("#")[0]
    for value in settings.get("load_op_library") or ():
        yield "--load-op-library", str(value)


def _refuse_url(deployment: Deployment, key: str, url: str) -> None:
    scheme, separator, path = url.partition("://")
    if separator and scheme not in ("file", "local"):
        wanted = _SCHEMES.get(deployment.storage, ())
        others = {
            one for name, found in _SCHEMES.items() if name != deployment.storage for one in found
        }
        if wanted and scheme in others:
            raise ConfigError(
                f"{key} {url} isn't in the store that the {deployment.storage} overlay gives rights to",
                remedy=f"Name a URL of {wanted[0]}://, or the other store's overlay",
            )
        return
    place = PurePosixPath(path if separator else url)
    given = [PurePosixPath(CODE_PATH)]
    if deployment.storage == "pvc":
        given.append(PurePosixPath(deployment.data_path))
    if key == "--load-op-library":
        return  # it may lie in the image
    if not any(place.is_relative_to(one) for one in given) or ".." in place.parts:
        raise ConfigError(
            f"{key} {url} is a path of this machine, and no Pod has it",
            remedy="Name a URL of an object store, or add --overlay pvc and name a path below "
            f"{deployment.data_path}",
        )


def _values(deployment: Deployment) -> Iterator[tuple[str, bool]]:
    """Each value that was given, and whether something takes it."""
    cloud = deployment.storage in ("gcs", "s3", "azure")
    held = deployment.storage == "pvc"
    if deployment.identity:
        yield "--identity", cloud
    if deployment.region:
        yield "--region", deployment.storage == "s3"
    if deployment.account:
        yield "--account", deployment.storage == "azure"
    if deployment.gpu_type:
        yield "--gpu-type", deployment.gpu
    if deployment.claim:
        yield "--claim", held
    if deployment.data_path != DATA_PATH:
        yield "--data-path", held
    if deployment.storage_class:
        yield "--storage-class", (held and not deployment.claim) or deployment.kind == "cluster"
