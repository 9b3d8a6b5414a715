"""The command ``config``: is a configuration file valid, and what can one hold?"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, answer_console, print_json


def config(
    file: str | None = None,
    /,
    *,
    explain: Annotated[
        bool,
        Parameter(
            negative=(),
            show_default=False,
            help="Show every key with its default, unit and meaning.",
        ),
    ] = False,
    json_schema: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Print the JSON schema, for editors.")
    ] = False,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Check a configuration file, or explain what one can hold.

    For example:

        tfresume config configs/local.yaml            is it valid?
        tfresume config configs/local.yaml --explain  beside every default
        tfresume config --json-schema                 for your editor

    Args:
        file: A YAML file or URL to check. Without it, all keys are listed.
    """
    from launch.explain import explain_table, keys
    from launch.explain import json_schema as schema
    from launch.flags import read_config_file
    from orchestrator.config import parse_config

    if json_schema:
        print_json(schema())
        return EXIT_DONE
    values = read_config_file(file) if file else {}
    checked = parse_config({"source": "(from the command line)", **values}) if file else None
    if looks.json:
        print_json(
            {"config": checked, "keys": keys()} if explain or not file else {"config": checked}
        )
    elif explain or checked is None:
        answer_console().print(explain_table(values if file else None))
    else:
        import yaml
        from rich.syntax import Syntax

        answer_console().print(
            Syntax(
                yaml.safe_dump(checked.model_dump(mode="json"), sort_keys=False),
                "yaml",
                background_color="default",
            )
        )
    return EXIT_DONE
