"""Is each store's client told how long to wait and to cache no listing, in words that it knows?"""

from __future__ import annotations

import os

import aiohttp
import botocore.config
import pytest

from orchestrator.store.objects.clients import CONNECT_S, READ_S, client_settings, how_to_install


@pytest.mark.parametrize("protocol", ["s3", "s3a"])
def test_client_of_s3_waits_and_tries_so_long_and_no_longer(protocol: str) -> None:
    settings = client_settings(protocol)
    config = botocore.config.Config(**settings.pop("config_kwargs"))
    assert (config.connect_timeout, config.read_timeout) == (CONNECT_S, READ_S)
    assert config.retries == {"max_attempts": 2, "mode": "standard"}
    assert settings == {"use_listings_cache": False}


@pytest.mark.parametrize("protocol", ["gs", "gcs"])
def test_client_of_google_waits_so_long_for_a_sign_of_life_and_for_ever_while_there_is_one(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.delenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT")
    assert client_settings(protocol) == {
        "use_listings_cache": False,
        "requests_timeout": aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_S, sock_read=READ_S
        ),
    }
    assert os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] == "false"
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "true")
    client_settings(protocol)
    assert os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] == "true", "somebody's own word counts"


@pytest.mark.parametrize("protocol", ["az", "abfs", "abfss"])
def test_client_of_azure_is_told_whole_seconds(protocol: str) -> None:
    assert client_settings(protocol) == {
        "use_listings_cache": False,
        "connection_timeout": 5,
        "read_timeout": 20,
    }


@pytest.mark.parametrize(
    ("protocol", "settings"),
    [
        ("file", {"use_listings_cache": False}),
        ("local", {"use_listings_cache": False}),
        ("memory", {"use_listings_cache": False}),
        ("sftp", {}),
    ],
)
def test_other_clients_are_told_what_they_know(protocol: str, settings: dict[str, bool]) -> None:
    assert client_settings(protocol) == settings


@pytest.mark.parametrize(
    ("protocol", "command"),
    [
        ("s3", "pip install s3fs"),
        ("abfs", "pip install adlfs"),
        ("sftp", "pip install the fsspec client of sftp"),
    ],
)
def test_client_that_is_not_installed_is_named(protocol: str, command: str) -> None:
    assert how_to_install(protocol) == command
