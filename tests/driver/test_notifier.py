"""Are incidents and ends posted, without anybody ever waiting for a webhook?"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.driver.notices import body, notice
from orchestrator.driver.notifier import Notifier, notifier_of, webhooks
from orchestrator.errors import ConfigError
from orchestrator.journal.parsing import parse
from tests.launch import journals

INCIDENT = journals.loss_of_rank_1()[-1]
END = journals.finish(89, 2000)
NOT_HTTP = 0
"""An answer that isn't HTTP, as of a proxy that ends."""


class Webhook:
    """A real HTTP server that keeps what is posted; ``answers`` are given one after the other, the
    last one for ever. While ``gate`` is closed nobody gets an answer.
    """

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.answers = [200]
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                hook.asked += 1
                hook.gate.wait(60)
                code = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
                if code == 200:
                    hook.bodies.append(json.loads(data))
                if code == NOT_HTTP:
                    self.wfile.write(b"nonsense\r\n\r\n")
                    return
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing on a test's output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def hook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.gate.set()
    made.server.shutdown()
    made.server.server_close()
    made.thread.join(60)


def test_incident_and_end_are_posted_once_each_and_nothing_else(hook: Webhook) -> None:
    notifier = Notifier([hook.url], "gs://b/more")
    for event in journals.whole_run():
        notifier.event(event)
    assert [item["event"] for item in hook.bodies] == ["incident", "finish"]
    incident = hook.bodies[0]
    assert incident["run"] == "gs://b/more"
    assert incident["record"]["exit_code"] == -9
    assert incident["logs"] == "tfresume logs gs://b/more --worker w0002"
    assert "died of rank 1 on node-b (SIGKILL); training went on after 0.41 s" in incident["text"]
    assert "loss 2 of 60 within an hour, 58 left" in incident["text"]


def test_webhook_that_fails_for_a_while_gets_the_notice_in_the_end(hook: Webhook) -> None:
    hook.answers = [503, 429, 200]
    notifier = Notifier([hook.url], "r", waits_s=(0.0, 0.0, 0.0))
    notifier.event(INCIDENT)
    assert (hook.asked, len(hook.bodies)) == (3, 1)


@pytest.mark.parametrize(("answer", "tries"), [(500, 4), (404, 1)])
def test_tries_are_bounded_and_what_fails_is_a_line_in_the_log(
    hook: Webhook, answer: int, tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [answer]
    notifier = Notifier([hook.url], "r", waits_s=(0.0, 0.0, 0.0))
    with caplog.at_level(logging.WARNING, "tfresume"):
        notifier.event(INCIDENT)
        assert hook.asked == tries
    assert f"after {tries} tries: the webhook answers {answer}" in caplog.text
    assert "/hook" not in caplog.text


def test_training_and_the_end_never_wait_for_a_webhook_that_hangs(
    hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.gate.clear()
    (notifier,) = notifier_of([hook.url], "r", {})
    began_s = time.monotonic()
    for _ in range(500):
        notifier.event(INCIDENT)
    with caplog.at_level(logging.WARNING, "tfresume"):
        notifier.close(0.1)
    assert hook.bodies == []
    assert time.monotonic() - began_s < 60.0
    assert "--notify didn't end within 0 s" in caplog.text
    hook.gate.set()
    notifier.close(60)
    assert len(hook.bodies) <= 1, "what was said not to be told is told"


def test_end_waits_for_what_is_not_posted_yet(hook: Webhook) -> None:
    (notifier,) = notifier_of(["env:HOOK"], "r", {"HOOK": hook.url})
    notifier.event(INCIDENT)
    notifier.event(END)
    notifier.close(60)
    assert [item["event"] for item in hook.bodies] == ["incident", "finish"]
    assert notifier_of([], "r", {}) == []


def test_webhook_that_nobody_listens_at_ends_after_its_tries(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notifier = Notifier(["http://127.0.0.1:9/secret"], "r", waits_s=(0.0,))
    with caplog.at_level(logging.WARNING, "tfresume"):
        notifier.event(END)
        assert "after 2 tries: the webhook can't be reached" in caplog.text
    assert "secret" not in caplog.text


def test_answer_that_is_not_http_is_tried_again_and_loses_no_later_notice(hook: Webhook) -> None:
    hook.answers = [NOT_HTTP, 200]
    notifier = Notifier([hook.url], "r", waits_s=(0.0,))
    notifier.event(INCIDENT)
    notifier.event(END)
    assert [item["event"] for item in hook.bodies] == ["incident", "finish"]
    assert hook.asked == 3


def test_url_that_no_client_takes_is_said_without_its_path_and_keeps_nobody_from_theirs(
    hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(["http://127.0.0.1:9/a secret", hook.url], "r", waits_s=(0.0,))
    with caplog.at_level(logging.WARNING, "tfresume"):
        notifier.event(INCIDENT)
        notifier.event(END)
        assert [item["event"] for item in hook.bodies] == ["incident", "finish"]
    assert "after 1 tries: the webhook can't be reached: InvalidURL" in caplog.text
    assert "secret" not in caplog.text


def test_slack_gets_a_text_alone() -> None:
    told = notice(parse(INCIDENT), "gs://b/more")
    assert told is not None
    slack = body(told, "https://hooks.slack.com/services/T/B/X")
    assert list(slack) == ["text"]
    assert slack["text"].startswith("tfresume gs://b/more: incident: died of rank 1")
    assert slack["text"].endswith("`tfresume logs gs://b/more --worker w0002`")
    assert body(told, "https://example.org/hook") is told


def test_notice_holds_no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_TOKEN", "s3cr3t-value-of-the-store")
    told = notice(parse(END | {"reason": "s3cr3t-value-of-the-store is refused"}), "r")
    assert "s3cr3t" not in json.dumps(told)


def test_secret_webhook_is_named_by_its_variable_and_never_recorded() -> None:
    slack = "https://hooks.slack.com/services/T0/B0/xyzzy"
    with pytest.raises(ConfigError, match="env:NAME"):
        parse_config({"source": "s", "notify": [slack]})
    config = parse_config({"source": "s", "notify": ["env:HOOK"]})
    assert webhooks(config.notify, {"HOOK": slack}) == (slack,)
    assert "xyzzy" not in config.model_dump_json()


@pytest.mark.parametrize("environment", [{}, {"HOOK": "hooks.slack.com/services"}])
def test_variable_without_a_url_is_refused_by_name(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="HOOK"):
        webhooks(["env:HOOK"], environment)


@pytest.mark.parametrize("item", ["example.org/hook", "ftp://example.org", "env:", "http://"])
def test_what_is_no_webhook_is_refused(item: str) -> None:
    with pytest.raises(ConfigError, match="neither an http URL nor env:NAME"):
        parse_config({"source": "s", "notify": [item]})
