"""How does a worker stand still while its rows are sent from where they lie?

Rule: between two steps, until all is in the store or somebody calls. Who is called away tells at
once that it holds; the save goes on meanwhile, and is broken off before anything can change a
variable: it has failed then, and the next one makes up for it.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from orchestrator.decide.doing import Doing
from orchestrator.workers.mailbox import Mailbox
from orchestrator.workers.runtime_protocol import Tools
from orchestrator.workers.saver import SaveJob, Saver

STILL_S = 300.0
"""A save that moves nothing for so long is broken off: a transfer takes its own silence for a failure
after 60 s, and the driver ends whoever moves nothing for twice this long.
"""


class StandingStill:
    """The working thread's waits for saves of rows that weren't copied. All methods belong to it."""

    def __init__(self, mailbox: Mailbox, saver: Saver, tools: Tools) -> None:
        self._mailbox, self._saver, self._tools = mailbox, saver, tools
        self._stillness: Any = None

    def until_sent(self, job: SaveJob) -> None:
        """Hand the save over and wait. Its rows may still be read afterwards, until ``end``."""
        mailbox, sent = self._mailbox, threading.Event()

        def tell() -> None:
            with mailbox.condition:
                sent.set()
                mailbox.condition.notify_all()

        self._stillness = job.state.live.stillness
        mailbox.doing = Doing.SAVING
        self._saver.submit(replace(job, then=tell))
        with mailbox.condition:
            moved = self._tools.moved_bytes()
            while not mailbox.condition.wait_for(
                lambda: sent.is_set() or mailbox.orders or mailbox.must_hold or mailbox.closing,
                STILL_S,
            ):
                before, moved = moved, self._tools.moved_bytes()
                if moved == before:
                    break
        called = mailbox.must_hold or mailbox.closing
        if not called:
            self.end()

    def end(self) -> None:
        """The variables are about to change."""
        stillness, self._stillness = self._stillness, None
        if stillness is not None:
            stillness.end()
