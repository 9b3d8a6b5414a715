"""What can a user ask of a run?

Rule: one frozen model is the only truth for command-line flags, ``--config`` YAML, ``tfresume
config --explain`` and the JSON schema; its keys stand in ``config_sections`` and ``config_graph``.
Unknown keys are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError, field_validator, model_validator

from orchestrator.config_graph import GraphSection, SurgerySection
from orchestrator.config_sections import (
    SLACK_HOSTS,
    InputsSection,
    LengthSection,
    ReportingSection,
    SavingSection,
    SourceSection,
    WhereSection,
    WorkersConfig,
    WorkersSection,
)
from orchestrator.config_units import Section
from orchestrator.errors import ConfigError
from orchestrator.redaction import WITHOUT_CREDENTIALS, holds_credential, redacted

NO_RAY_CLIENT = (
    "ray:// (Ray Client) isn't supported: it connects a driver outside the cluster through a proxy, which gives everything up that hangs on "
    "a connection broken for 30 s; "
    "run `tfresume submit --address http://HEAD:8265` from here, or resume on a node of the cluster"
)

AUTO, NONE = "auto", "none"
"""What ``shard_tables`` may say in place of names."""

SECRET_WEBHOOK = (
    "a Slack webhook's URL is a secret, and the configuration is recorded: put it into a variable "
    "of the driver's environment and write env:NAME"
)


class RunConfig(
    # pydantic lists the fields of the last one first
    ReportingSection,
    SurgerySection,
    GraphSection,
    InputsSection,
    WorkersSection,
    SavingSection,
    LengthSection,
    WhereSection,
    SourceSection,
):
    """Everything that ``tfresume resume`` needs to know."""

    @field_validator("workers", mode="before")
    @classmethod
    def _count_alone(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("address")
    @classmethod
    def _no_ray_client(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("ray://"):
            raise ValueError(NO_RAY_CLIENT)
        return value

    @field_validator("shard_tables", mode="before")
    @classmethod
    def _one_word_or_names(cls, value: Any) -> Any:
        named = [value] if isinstance(value, str) else value
        if isinstance(named, list) and len(named) > 1 and {AUTO, NONE} & {*map(str, named)}:
            raise ValueError(f"{AUTO} and {NONE} stand alone, beside no names of tables")
        return named

    @field_validator("notify")
    @classmethod
    def _webhooks_that_can_be_recorded(cls, value: list[str]) -> list[str]:
        for item in value:
            if item.startswith("env:") and item != "env:":
                continue
            parts = urlsplit(item)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"{redacted(item)!r} is neither an http URL nor env:NAME")
            if parts.hostname in SLACK_HOSTS:
                raise ValueError(SECRET_WEBHOOK)
        return value

    @field_validator("feed", "set", mode="before")
    @classmethod
    def _values_as_text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: item if isinstance(item, str) else _as_json(item) for name, item in value.items()
        }

    @model_validator(mode="after")
    def _one_end(self) -> RunConfig:
        if self.until_step is not None and self.steps is not None:
            raise ValueError("until_step and steps exclude each other")
        if self.array and self.batch_size is None:
            raise ValueError("array needs batch_size")
        if self.weight_by and self.gradient_scale == "sum":
            raise ValueError("weight_by weights means, and gradient_scale: sum takes none")
        if self.on_resize == "scale_lr" and not self.scale_lr_feed:
            raise ValueError("on_resize: scale_lr needs scale_lr_feed")
        return self

    @property
    def exchanges(self) -> bool:
        """Whether gradients have to leave the graph: for other workers, or because one worker has
        several batches in a step.
        """
        return self.workers.largest > 1 or (self.batches_per_step or 1) > 1

    @property
    def save_every_s(self) -> float | None:
        """Seconds between saves, or None where only steps count."""
        if self.save_secs is None and self.save_steps is None:
            return 600.0
        return self.save_secs


SECTIONS: tuple[type[Section], ...] = tuple(
    base for base in reversed(RunConfig.__bases__) if issubclass(base, Section)
)
"""The sections of ``RunConfig``, in the order in which they are shown."""


def _as_json(value: Any) -> str:
    import json

    return json.dumps(value)


def _refuse_credentials(values: Any, key: str = "") -> None:
    """A configuration goes into ``run.json``, logs and job metadata; its URLs are looked at before
    any of that.
    """
    if isinstance(values, str) and holds_credential(values):
        raise ConfigError(
            f"{key} holds a credential, which isn't repeated here", remedy=WITHOUT_CREDENTIALS
        )
    if isinstance(values, dict):
        for name, value in values.items():
            _refuse_credentials(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            _refuse_credentials(value, key)


def parse_config(values: dict[str, Any]) -> RunConfig:
    """The configuration that ``values`` (YAML merged with flags) describes.

    Raises:
        ConfigError: naming every wrong key by its dotted path.
    """
    _refuse_credentials(values)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        lines = [_told(item) for item in error.errors()]
        raise ConfigError(
            "the configuration has "
            + ("an error: " if len(lines) == 1 else f"{len(lines)} errors: ")
            + "; ".join(lines),
            remedy="See `tfresume config --explain` for every key",
            details={"errors": lines},
        ) from error


def _told(error: Mapping[str, Any]) -> str:
    """One of pydantic's findings with its dotted path; an unknown key with the one that was meant."""
    path = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        return f"{path or 'configuration'}: {str(error['msg']).removeprefix('Value error, ')}"
    of_workers = error["loc"][0] == "workers"
    known = (
        [f"workers.{name}" for name in WorkersConfig.model_fields]
        if of_workers
        else list(RunConfig.model_fields)
    )
    meant = get_close_matches(path.replace("-", "_"), known, 1, 0.6)
    return f"{path}: there is no such key" + (f"; did you mean {meant[0]}?" if meant else "")
