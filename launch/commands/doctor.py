"""The command ``doctor``: is everything there, here or on every node of a cluster?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from launch.commands.options import Looks
from launch.terminal import EXIT_DONE, EXIT_FAILED, answer_console, print_json

if TYPE_CHECKING:
    from launch.doctor.diagnosis import Finding

_MARK = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]FAIL[/red]"}


def doctor(
    *,
    address: Annotated[
        str | None, Parameter(help="A Ray cluster (auto, HOST:PORT) or its job server (http://).")
    ] = None,
    url: Annotated[
        str | None,
        Parameter(help="Write, read and delete a small object below this URL, on every node."),
    ] = None,
    looks: Looks = Looks(),  # noqa: B008  frozen
) -> int:
    """Check this machine, or every node of a cluster; exit 0 or 1.

    For example:

        tfresume doctor --url gs://b/more
        tfresume doctor --address auto
        tfresume doctor --address http://HEAD:8265 --url s3://b/more
    """
    from launch.doctor.diagnosis import diagnosis, passed
    from launch.doctor.facts import gather
    from launch.jobs.inside import is_job_server, run_inside

    if address is not None and is_job_server(address):
        return run_inside(address, ["doctor", *(["--url", url] if url else [])], as_json=looks.json)
    if address is None:
        findings = diagnosis([gather(url)])
    else:
        from launch.doctor.nodes import ask_nodes, connected, refuse_dead

        refuse_dead(address)  # before this machine is looked at, which takes seconds
        ours = gather()
        with connected(address) as ray:
            findings = diagnosis(ask_nodes(ray, url), ours)
    if looks.json:
        print_json({"status": "ok" if passed(findings) else "failed", "findings": findings})
    else:
        _show(findings)
    return EXIT_DONE if passed(findings) else EXIT_FAILED


def _show(findings: Sequence[Finding]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from orchestrator.redaction import redacted

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("", "check", "where", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        cure = f"\n[bold]do:[/bold] {escape(finding.cure)}" if finding.cure else ""
        table.add_row(
            _MARK[finding.verdict],
            escape(finding.check),
            escape(finding.where),
            escape(redacted(finding.found)) + cure,
        )
    answer_console().print(table)
