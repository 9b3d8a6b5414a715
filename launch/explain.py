"""What can a configuration hold: which keys, with which defaults and units, and why?

Rule: everything shown is read from `orchestrator.config.RunConfig`; nothing is written down twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from launch.flags import default_text, section_of
from orchestrator.config import RunConfig
from orchestrator.config_sections import WorkersConfig
from orchestrator.config_units import unit_of


@dataclass(frozen=True)
class Key:
    """One key of the configuration, as a person reads it."""

    path: str
    section: str
    kind: str
    unit: str
    default: str
    meaning: str


def kind_of(annotation: Any) -> str:
    """A type in an operator's words: ``number``, ``yes/no``, ``list``, ``a | b``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " | ".join(kind_of(item) for item in arguments if item is not NoneType)
    words = {
        int: "number",
        float: "number",
        str: "text",
        bool: "yes/no",
        list: "list",
        dict: "NAME: VALUE",
    }
    return words.get(origin or annotation, "mapping")


def keys() -> tuple[Key, ...]:
    """Every key of the configuration, in the order of the sections."""
    found: list[Key] = []
    for name, info in RunConfig.model_fields.items():
        section = section_of(name)
        found.append(_key(name, name, section, info))
        if name == "workers":
            found += [
                _key(f"workers.{part}", part, section, item)
                for part, item in WorkersConfig.model_fields.items()
            ]
    return tuple(found)


def _key(path: str, name: str, section: str, info: Any) -> Key:
    text = (info.description or "").replace("``", "`").replace("\n", " ")
    return Key(path, section, kind_of(info.annotation), _unit(info), default_text(info), text)


def _unit(info: Any) -> str:
    return next(filter(None, map(unit_of, (*info.metadata, info.annotation))), "")


def explain_table(values: Mapping[str, Any] | None = None) -> RenderableType:
    """The keys as tables, one a section; with ``values`` (a configuration file's keys) a column for
    what it sets.
    """
    parts: list[RenderableType] = []
    rows = keys()
    for section in dict.fromkeys(key.section for key in rows):
        table = Table(
            show_header=True, header_style="bold", pad_edge=False, box=None, padding=(0, 2, 0, 0)
        )
        table.add_column("key", style="cyan", no_wrap=True, width=22)
        table.add_column("default", no_wrap=True, width=13)
        if values is not None:
            table.add_column("here", style="green", max_width=24)
        table.add_column("meaning")
        for key in rows:
            if key.section == section:
                here = [] if values is None else [escape(_here(values, key.path))]
                default = f"{key.default} {key.unit}".strip() if key.default else "-"
                table.add_row(
                    key.path,
                    escape(default),
                    *here,
                    f"{escape(key.meaning)} [dim]({escape(_kind_and_unit(key))})[/dim]",
                )
        parts += [Text(f"\n{section}", style="bold underline"), table]
    return Group(*parts)


def _kind_and_unit(key: Key) -> str:
    return f"{key.kind} of {key.unit}" if key.unit and key.kind == "number" else key.kind


def _here(values: Mapping[str, Any], path: str) -> str:
    value: Any = values
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return ""
        value = value[part]
    return "" if isinstance(value, Mapping) and path == "workers" else str(value)


def _in_one_line(schema: Any) -> Any:
    """With descriptions as editors show them: where the source breaks a line means nothing."""
    if isinstance(schema, dict):
        return {
            key: " ".join(value.split())
            if key == "description" and isinstance(value, str)
            else _in_one_line(value)
            for key, value in schema.items()
        }
    return [_in_one_line(each) for each in schema] if isinstance(schema, list) else schema


def json_schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors. SOURCE is optional there: the command
    line may give it.
    """
    schema: dict[str, Any] = _in_one_line(RunConfig.model_json_schema())
    schema["title"] = "tfresume run configuration"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema.pop("required", None)
    workers = schema["properties"]["workers"]
    schema["properties"]["workers"] = {
        "anyOf": [{"type": "integer", "minimum": 1}, {"$ref": "#/$defs/WorkersConfig"}],
        "description": workers.get("description", ""),
        "default": 1,
    }
    feed = schema["properties"]["feed"]
    feed["additionalProperties"] = {"type": ["string", "number", "boolean", "array", "null"]}
    return schema
