"""How are notices delivered?

Rule: to one webhook after the other, each a bounded number of times; what can't be delivered is a
line in the log. That takes its time, so the driver's loop only leaves a notice (``notifier_of``).
At the run's end the last ones have ``CLOSE_S``.
"""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import BadStatusLine, HTTPException
from typing import Any

from orchestrator.driver.notices import body, notice
from orchestrator.driver.observer_thread import ObserverThread
from orchestrator.errors import ConfigError
from orchestrator.journal.parsing import parse

log = logging.getLogger("tfresume")

WAITS_S = (1.0, 5.0, 20.0)
"""Between the tries: a service that restarts, or limits its rate, is back within them."""
REQUEST_S = 10.0
"""Longest wait for one answer; a webhook answers in a fraction of a second or not at all."""
CLOSE_S = 15.0
"""Longest wait at the run's end for what isn't delivered yet: a slow answer and one more try."""


class Notifier:
    """An observer that posts incidents and the end, and waits for the answers.

    Args:
        urls: webhooks, with their secrets.
        run: the output's URL, as it may be shown.
        waits_s: between tries, for tests.
    """

    def __init__(self, urls: Sequence[str], run: str, waits_s: Sequence[float] = WAITS_S) -> None:
        self._urls, self._run, self._waits_s = tuple(urls), run, tuple(waits_s)

    def event(self, event: Mapping[str, Any]) -> None:
        """One journal event."""
        told = notice(parse(event), self._run)
        if told is not None:
            for url in self._urls:
                self._post(url, told)

    def progress(self, progress: object) -> None:
        """Nobody is told of each step."""

    def _post(self, url: str, told: Mapping[str, Any]) -> None:
        data = json.dumps(body(told, url)).encode()
        for tries, wait_s in enumerate((*self._waits_s, None), 1):
            trouble = posted(url, data)
            if trouble is None:
                return
            passing, text = trouble
            if not passing or wait_s is None:
                log.warning("a notice wasn't delivered after %d tries: %s", tries, text)
                return
            time.sleep(wait_s)


def posted(url: str, data: bytes) -> tuple[bool, str] | None:
    """Post once; None where it was taken, else whether another try may work, and what happened."""
    request = urllib.request.Request(
        url, data, {"Content-Type": "application/json", "User-Agent": "tfresume"}
    )
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_S):
            return None
    except urllib.error.HTTPError as error:
        return error.code == 429 or error.code >= 500, f"the webhook answers {error.code}"
    except (OSError, ValueError, HTTPException) as error:
        # without its text: a client's error may repeat the URL, which may be a secret
        passing = isinstance(error, OSError | BadStatusLine)
        return passing, f"the webhook can't be reached: {type(error).__name__}"


def webhooks(notify: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The URLs that ``notify`` means.

    Raises:
        ConfigError: a variable that it names isn't set, or holds no URL.
    """
    return tuple(_webhook(item, environment) for item in notify)


def _webhook(item: str, environment: Mapping[str, str]) -> str:
    if not item.startswith("env:"):
        return item
    name = item.removeprefix("env:")
    url = environment.get(name, "")
    if not url.startswith(("http://", "https://")):
        said = "isn't set here" if not url else "doesn't hold an http URL"
        raise ConfigError(
            f"--notify {item}: the variable {name} {said}",
            remedy=f"Set {name} to the webhook's URL where the driver runs, or leave --notify out",
        )
    return url


def notifier_of(
    notify: Sequence[str], run: str, environment: Mapping[str, str]
) -> list[ObserverThread]:
    """The observer that ``notify`` asks for, whom nobody waits for; none where it asks for none."""
    if not notify:
        return []
    return [ObserverThread(Notifier(webhooks(notify, environment), run), "--notify", CLOSE_S)]
