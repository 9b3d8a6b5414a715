"""How does the driver connect with Ray while it still reads the source?

Rule: connecting runs in a thread of its own from the first moment on and is waited for only when
the first worker is to be placed. A Ray that was running before is left running.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import ray

from orchestrator.config import RunConfig
from orchestrator.decide.room import cpus_of_local_ray
from orchestrator.errors import PlacementError
from orchestrator.workers.reach import reach

ADDRESS_FILE = "TFRESUME_ADDRESS_FILE"
"""Environment variable: where the supervisor writes the address of the Ray that it is just
starting.
"""
CONNECT_S = 120.0
"""Longest wait for Ray. A local one takes up to half a minute to start on a busy machine; a
cluster's head answers at once or isn't there, which ``workers.reach`` finds out sooner.
"""
CLOSE_S = 5.0
"""Longest wait for a connection to another's cluster that isn't needed any more."""


class RayLink:
    """A connection to Ray that is being made."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._error: BaseException | None = None
        self._own = not ray.is_initialized()
        self._done, self._over, self._may_end = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._thread = threading.Thread(target=self._connect, name="tfresume-ray", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when Ray can be used.

        Raises:
            PlacementError: it can't be reached or started.
        """
        where = self._config.address or "the local Ray"
        remedy = (
            "Check --address with `ray status`"
            if self._config.address
            else "Is the machine busy or /tmp full? Try again; `tfresume doctor` looks"
        )
        if not self._done.wait(CONNECT_S):
            raise PlacementError(f"{where} hasn't answered for {CONNECT_S:.0f} s", remedy=remedy)
        if isinstance(self._error, PlacementError):
            raise self._error
        if self._error is not None:
            raise PlacementError.from_cause(
                f"{where} can't be used", self._error, remedy=remedy
            ) from self._error

    @property
    def starts_a_ray(self) -> bool:
        """Whether it's this machine that the workers will be on."""
        return self._own and self._config.address is None

    def close(self) -> None:
        """Disconnect, if the connection is ours."""
        self._over.set()
        if self._own and self._done.wait(CLOSE_S if self._config.address else CONNECT_S):
            ray.shutdown()
        self._may_end.set()

    def _connect(self) -> None:
        try:
            if self._own:
                options = self._options()
                if self._config.address is not None:
                    reach(self._config.address)
                ray.init(**options)
        except BaseException as error:  # noqa: BLE001 - raised again where it's waited for
            self._error = error
        self._done.set()
        # The processes of a local Ray die with the thread that started them (PR_SET_PDEATHSIG), so
        # it has to stay
        self._may_end.wait()

    def _options(self) -> dict[str, Any]:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        address = self._config.address or self._address_from_supervisor()
        if address is not None:
            return {"address": address, **quiet}
        workers = self._config.workers
        cpus = cpus_of_local_ray(
            workers.largest + workers.standby, workers.cpus, os.cpu_count() or 1
        )
        return {"address": "local", "num_cpus": cpus, "include_dashboard": False, **quiet}

    def _address_from_supervisor(self) -> str | None:
        path = os.environ.get(ADDRESS_FILE)
        if path is None:
            return None
        deadline = time.monotonic() + CONNECT_S
        while time.monotonic() < deadline and not self._over.wait(0.02):
            if Path(path).exists():
                return Path(path).read_text().strip()
        raise TimeoutError(f"no local Ray has told its address in {path}")
