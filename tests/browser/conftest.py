"""A real Chromium, headless, and a report made from a run's output."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from launch.report.make import make_report, write_report
from launch.report.model import Report
from orchestrator.store.objects.location import open_location
from tests.launch import journals
from tests.launch.runs import recorded_run, unreadable_checkpoint

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # A browser that is told to open one file asks nobody for anything
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
)
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def run_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of a run with two generations, an incident, saves and a broken checkpoint."""
    output = open_location(str(tmp_path_factory.mktemp("browser") / "more"))
    recorded_run(output, [*journals.whole_run()]).release()
    unreadable_checkpoint(output, 1100)
    return output.url


@pytest.fixture(scope="session")
def report(run_url: str) -> Report:
    """What the page should show."""
    return make_report(run_url)


@pytest.fixture(scope="session")
def page_url(run_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(run_url, str(path))
    return path.as_uri()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Chromium for all tests; skips where there is none."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=DRIVER)
    )
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def open_page(browser: Any, page_url: str) -> Open:
    """Opens the page: ``open_page(width=360, dark=True, touch=True)``; the network is off."""

    def opened(
        width: int = 1100,
        height: int = 900,
        *,
        dark: bool = False,
        touch: bool = False,
        url: str = page_url,
    ) -> Any:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        browser.execute_cdp_cmd("Network.enable", {})
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        browser.get(url)
        return browser

    return opened
