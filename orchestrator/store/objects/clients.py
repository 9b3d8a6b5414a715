"""With which settings is a store's client made, and what has to be installed for it?

Rule: no client of its own accord bounds how long it waits, or caches nothing; each is told so here.
"""

from __future__ import annotations

import os
from typing import Any

CONNECT_S, READ_S = 5.0, 20.0
"""A store that lives takes a connection in milliseconds, and sends something within seconds even
where it's busy. Two tries at both fit ``requests.REQUEST_DEADLINE_S``.
"""
_CLIENTS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "adl": "adlfs",
}


def how_to_install(protocol: str) -> str:
    """What to do where a protocol's client isn't installed."""
    return f"pip install {_CLIENTS.get(protocol, f'the fsspec client of {protocol}')}"


def client_settings(protocol: str) -> dict[str, Any]:
    """What the constructor of a protocol's file system is called with."""
    match protocol:
        case "gs" | "gcs":
            import aiohttp

            # gcsfs asks a control endpoint at first use, which costs 28-195 s where that can't be
            # reached; it reads this at import
            os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)
            return {"use_listings_cache": False, "requests_timeout": timeout}
        case "s3" | "s3a":
            config = {
                "connect_timeout": CONNECT_S,
                "read_timeout": READ_S,
                "retries": {"max_attempts": 2, "mode": "standard"},
            }
            return {"use_listings_cache": False, "config_kwargs": config}
        case "az" | "abfs" | "abfss":
            return {
                "use_listings_cache": False,
                "connection_timeout": int(CONNECT_S),
                "read_timeout": int(READ_S),
            }
        case "file" | "local" | "memory":
            return {"use_listings_cache": False}
        case _:
            return {}
