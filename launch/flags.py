"""Which command-line flags set which key of the configuration?

Rule: `orchestrator.config.RunConfig` is the only truth. Each of its fields becomes one flag of the
same name (dashes for underscores), its docstring the help text, its default the shown default. A
flag beats the same key of ``--config``; what neither names keeps the model's default. Mappings
(``--feed NAME=VALUE``) are merged key by key, lists are replaced.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from cyclopts import Group, Parameter
from pydantic.fields import FieldInfo

from orchestrator.config import SECTIONS, RunConfig, parse_config
from orchestrator.config_sections import WorkersConfig
from orchestrator.errors import ConfigError, OrchestratorError
from orchestrator.redaction import redacted

EITHER_OR = (("until_step", "steps"),)
"""Keys that exclude each other: a flag for one silences the configuration file's other."""


def section_of(name: str) -> str:
    """The heading under which a field of `RunConfig` is shown."""
    return next(section.heading for section in SECTIONS if name in section.__annotations__)


def is_mapping(info: FieldInfo) -> bool:
    """Whether a field is given as repeatable ``NAME=VALUE``."""
    return get_origin(_without_constraints(info.annotation)) is dict


def _without_constraints(annotation: Any) -> Any:
    """The annotation as a command line sees it: pydantic's constraints removed, they are checked by
    the model itself.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _without_constraints(arguments[0])
    if origin in (Union, UnionType):
        kinds = tuple(_without_constraints(item) for item in arguments if item is not NoneType)
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def default_text(info: FieldInfo) -> str:
    """A field's default, as help and ``--explain`` show it; empty where the default is "nothing
    given".
    """
    value = info.get_default(call_default_factory=True)
    if info.is_required() or value is None or value == "" or value in ([], {}):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, WorkersConfig):
        return str(value.count)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flag(name: str, info: FieldInfo, heading: str) -> tuple[str, Any, Any]:
    kind: Any = _without_constraints(info.annotation)
    metavar = None
    if kind is WorkersConfig:
        kind, metavar = int, "N"
    elif is_mapping(info):
        kind, metavar = list[str], "NAME=VALUE"
    elif kind == list[str]:
        metavar = "NAME"
    parameter = Parameter(
        name="--" + name.replace("_", "-"),
        help=_plain_text(info.description or ""),
        group=_GROUPS[heading],
        show_default=default_text(info) or False,
        metavar=metavar,
        negative_iterable=(),
    )
    return name.replace(".", "__"), Annotated[kind | None, parameter], field(default=None)


def _plain_text(description: str) -> str:
    return " ".join(description.replace("``", "`").split())


_GROUPS = {
    heading: Group(heading, sort_key=10 + index)
    for index, heading in enumerate(section.heading for section in SECTIONS)
}


def _fields() -> list[tuple[str, Any, Any]]:
    rows: list[tuple[str, Any, Any]] = []
    for name, info in RunConfig.model_fields.items():
        if name == "source":
            continue
        heading = section_of(name)
        rows.append(_flag(name, info, heading))
        if name == "workers":
            rows += [
                _flag(f"workers.{part}", part_info, heading)
                for part, part_info in WorkersConfig.model_fields.items()
                if part != "count"
            ]
    return rows


RunFlags = make_dataclass("RunFlags", _fields(), frozen=True, namespace={"__module__": __name__})
"""One optional attribute for each flag; ``workers.min`` is the attribute ``workers__min``."""


def some_flags(title: str, names: Collection[str]) -> type:
    """A type like ``RunFlags`` with some of its flags, for `given`."""
    rows = [row for row in _fields() if row[0] in names]
    return make_dataclass(title, rows, frozen=True, namespace={"__module__": __name__})


def given(flags: Any) -> dict[str, Any]:
    """The keys that the command line names, in the shape of the configuration file.

    Raises:
        ConfigError: a ``NAME=VALUE`` without its equals sign.
    """
    values: dict[str, Any] = {}
    for attribute, value in vars(flags).items():
        if value is None:
            continue
        if attribute == "workers":
            values.setdefault("workers", {})["count"] = value
        elif attribute.startswith("workers__"):
            values.setdefault("workers", {})[attribute.removeprefix("workers__")] = value
        elif is_mapping(RunConfig.model_fields[attribute]):
            flag = "--" + attribute.replace("_", "-")
            values[attribute] = dict(pair(flag, item) for item in value)
        else:
            values[attribute] = value
    return values


def pair(flag: str, text: str) -> tuple[str, str]:
    """Name and value of one of a flag's ``NAME=VALUE``.

    Raises:
        ConfigError: it has no equals sign, or no name before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(
            f"{flag} {text!r} isn't of the form NAME=VALUE",
            remedy=f"Write {flag} NAME=VALUE, once for each name",
        )
    return name, value


def merged(file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The file's keys with the command line's over them (the rule in the module docstring)."""
    values = dict(file)
    for one, other in EITHER_OR:
        if one in flags or other in flags:
            values.pop(one, None)
            values.pop(other, None)
    for name, value in flags.items():
        below = values.get(name)
        if name == "workers" and isinstance(below, int) and not isinstance(below, bool):
            below = {"count": below}
        values[name] = (
            {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return values


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; YAML does too, but PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value} stands twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_config_file(url: str) -> dict[str, Any]:
    """The keys of a YAML configuration file, at a path or any fsspec URL; of a directory's ``.yaml``
    files in the order of their names, a later one's over an earlier one's.

    Raises:
        ConfigError: it is missing, unreadable, not YAML or not a mapping, or a directory without
            any.
    """
    directory = Path(url)
    if not directory.is_dir():
        return _keys_of_file(url)
    files = sorted(directory.glob("*.yaml"))
    if not files:
        raise ConfigError(
            f"{redacted(url)} is a directory without any .yaml file",
            remedy="Name a configuration file, or a directory of them",
        )
    values: dict[str, Any] = {}
    for file in files:
        values = merged(values, _keys_of_file(str(file)))
    return values


def _keys_of_file(url: str) -> dict[str, Any]:
    from orchestrator.store.objects.location import open_location

    try:
        values = yaml.load(open_location(url).read_bytes().decode(), _EachKeyOnce)
    except OrchestratorError as error:
        raise ConfigError(
            f"the configuration file can't be read: {error.message}",
            remedy=error.remedy or "Check --config",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError.from_cause(
            f"{redacted(url)} isn't valid YAML",
            error,
            remedy="Correct the place that it names",
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{redacted(url)} holds {'a list' if isinstance(values, list) else 'a single value'} where a mapping of keys is needed",
            remedy="Write one `key: value` a line; `tfresume config --explain` lists the keys",
        )
    return {str(name): value for name, value in values.items()}


def run_config(source: str | None, config: str | None, flags: Any) -> RunConfig:
    """The run that SOURCE, ``--config`` and the flags describe together.

    Raises:
        ConfigError: naming every wrong key by its dotted path, or the missing SOURCE.
    """
    values = merged(read_config_file(config) if config else {}, given(flags))
    if source is not None:
        values["source"] = source
    if not values.get("source"):
        raise ConfigError(
            "no SOURCE was given",
            remedy="Name a .meta file, a checkpoint prefix or a directory, as in `tfresume resume gs://bucket/run/model.ckpt-10000`",
        )
    return parse_config(values)
