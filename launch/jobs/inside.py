"""How does a command reach a cluster that this machine can only submit jobs to?

Rule: it runs itself as a small job there, with ``--address auto``, and shows what that job says.
"""

from __future__ import annotations

import os
import shlex
import uuid
from collections.abc import Sequence

from launch.terminal import write_text
from orchestrator.errors import ConfigError
from orchestrator.redaction import redacted, secrets_in


def is_job_server(address: str | None) -> bool:
    """Whether an address is a job server's and not a Ray cluster's own."""
    return address is not None and address.startswith(("http://", "https://"))


def run_inside(address: str, words: Sequence[str], *, as_json: bool) -> int:
    """Run ``tfresume WORDS --address auto`` in the cluster behind a job server; its exit code. Its
    standard output becomes ours.

    Raises:
        ConfigError: the server can't be used, or a word holds a credential.
        ClusterUnavailable: the server stopped answering.
    """
    from launch.jobs.plan import JobPlan, exit_code_of
    from launch.jobs.server import JobServer

    entrypoint = shlex.join(
        ["tfresume", *words, "--address", "auto", *(["--json"] if as_json else [])]
    )
    if redacted(entrypoint, secrets_in(os.environ)) != entrypoint:
        raise ConfigError(
            "the command line holds a credential, and a job's command is shown to everyone",
            remedy="Leave it out of the URL",
        )
    server = JobServer(address)
    outcome = server.submit(
        JobPlan(
            name=f"tfresume-{words[0]}-{uuid.uuid4().hex[:8]}",
            entrypoint=entrypoint,
            run={},
            files={},
        )
    )
    written: list[str] = []
    state = server.follow(outcome.submission_id, written.append)
    text = (
        "".join(written) or f"job {state.submission_id} ended as {state.status}: {state.message}\n"
    )
    # A job's log holds both its outputs; the answer is the object at its end
    start = text.find("{\n") if as_json else 0
    write_text(text[max(start, 0) :])
    return exit_code_of(state)
