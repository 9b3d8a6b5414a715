"""Are incidents and ends posted, without anybody ever waiting for a webhook?"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import parse_config
from orchestrator.driver import notifier as module
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
        self.headers: dict[str, str] = {}
        self.answers = [200]
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                hook.asked += 1
                hook.headers = dict(self.headers.items())
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
    assert hook.headers["Content-Type"] == "application/json"
    assert hook.headers["User-Agent"] == "tfresume"


@pytest.mark.parametrize(
    ("answers", "waited"),
    [
        ([], []),
        ([(True, "busy")] * 2, [1.0, 5.0]),
        ([(True, "busy")] * 9, [1.0, 5.0, 20.0]),
        ([(True, "busy"), (False, "gone")], [1.0]),
    ],
)
def test_tries_are_further_and_further_apart(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[bool, str]], waited: list[float]
) -> None:
    left, slept = [*answers], list[float]()
    monkeypatch.setattr(module, "posted", lambda *_: left.pop(0) if left else None)
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=slept.append))
    Notifier(["http://example.org/hook"], "r").event(INCIDENT)
    assert slept == waited


def test_each_webhook_gets_the_notice_in_its_own_form(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}
    monkeypatch.setattr(module, "posted", lambda url, data: sent.update({url: json.loads(data)}))
    slack, plain = "https://hooks.slack.com/services/T/B/X", "https://example.org/hook"
    Notifier([slack, plain], "r").event(INCIDENT)
    assert list(sent[slack]) == ["text"]
    assert sent[plain]["run"] == "r"


def test_answer_is_waited_for_no_longer_than_one_ever_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    def hangs(_: object, timeout: float) -> None:
        waits.append(timeout)
        raise TimeoutError

    monkeypatch.setattr("urllib.request.urlopen", hangs)
    trouble = (True, "the webhook can't be reached: TimeoutError")
    assert module.posted("http://example.org/hook", b"") == trouble
    assert waits == [module.REQUEST_S]


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
    assert caplog.messages == [
        f"a notice wasn't delivered after {tries} tries: the webhook answers {answer}"
    ]


def test_training_and_the_end_never_wait_for_a_webhook_that_hangs(
    hook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.gate.clear()
    (thread,) = notifier_of([hook.url], "r", {})
    began_s = time.monotonic()
    for _ in range(500):
        thread.event(INCIDENT)
    with caplog.at_level(logging.WARNING, "tfresume"):
        thread.close(0.1)
    assert hook.bodies == []
    assert time.monotonic() - began_s < 60.0
    assert "--notify didn't end within 0 s" in caplog.text
    hook.gate.set()
    thread.close(60)
    assert len(hook.bodies) <= 1, "what was said not to be told is told"


def test_end_waits_for_what_is_not_posted_yet(hook: Webhook) -> None:
    (thread,) = notifier_of(["env:HOOK"], "r", {"HOOK": hook.url})
    thread.event(INCIDENT)
    thread.event(END)
    thread.close(60)
    assert [(item["event"], item["run"]) for item in hook.bodies] == [
        ("incident", "r"),
        ("finish", "r"),
    ]
    assert notifier_of([], "r", {}) == []


def test_end_of_a_run_waits_for_its_notices_as_long_as_a_slow_answer_and_one_more_try_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float | None] = []
    monkeypatch.setattr(threading.Thread, "join", lambda _, wait_s=None: waited.append(wait_s))
    (thread,) = notifier_of(["http://example.org/hook"], "r", {})
    thread.close()
    assert waited == [module.CLOSE_S]


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


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "isn't set here"),
        ({"HOOK": ""}, "isn't set here"),
        ({"HOOK": "hooks.slack.com/services"}, "doesn't hold an http URL"),
    ],
)
def test_variable_without_a_url_is_refused_by_name(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        webhooks(["env:HOOK"], environment)
    assert refused.value.message == f"--notify env:HOOK: the variable HOOK {said}"
    assert refused.value.remedy == (
        "Set HOOK to the webhook's URL where the driver runs, or leave --notify out"
    )


@pytest.mark.parametrize("item", ["example.org/hook", "ftp://example.org", "env:", "http://"])
def test_what_is_no_webhook_is_refused(item: str) -> None:
    with pytest.raises(ConfigError, match="neither an http URL nor env:NAME"):
        parse_config({"source": "s", "notify": [item]})
