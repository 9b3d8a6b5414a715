"""Does the report work in a real browser: offline, light and dark, wide and on a phone, by mouse,
finger and keyboard?
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.report.make import write_report
from launch.report.model import Report
from orchestrator.store.objects.location import open_location
from tests.launch import journals
from tests.launch.runs import recorded_run

pytestmark = pytest.mark.browser
Open = Callable[..., Any]

LOOKS = [
    pytest.param({"width": 1100}, id="wide, light"),
    pytest.param({"width": 1100, "dark": True}, id="wide, dark"),
    pytest.param({"width": 390, "height": 844, "touch": True}, id="phone, light"),
    pytest.param({"width": 390, "height": 844, "touch": True, "dark": True}, id="phone, dark"),
]

CONTRAST = """
const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(channel);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const clear = (colour) => colour === "transparent" || colour.endsWith(", 0)");
const under = (element) => {
  for (let e = element; e; e = e.parentElement) if (!clear(getComputedStyle(e).backgroundColor)) return getComputedStyle(e).backgroundColor;
  return "rgb(255, 255, 255)";
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
  if (!text || !e.checkVisibility() || e.closest("svg, script, style, noscript")) continue;
  const [a, b] = [light(getComputedStyle(e).color), light(under(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) found.push(`${e.tagName}.${e.className}: ${text.slice(0, 30)}`);
}
return found;
"""


def js(browser: Any, code: str) -> Any:
    return browser.execute_script(code)


@pytest.mark.parametrize("look", LOOKS)
def test_page_draws_without_errors_or_requests_and_fits_its_width(
    open_page: Open, look: dict[str, Any]
) -> None:
    browser = open_page(**look)
    assert browser.get_log("browser") == []
    assert js(browser, "return document.documentElement.dataset.drawn") == "yes"
    assert js(browser, "return performance.getEntriesByType('resource').length") == 0
    width = js(browser, "return document.documentElement.scrollWidth")
    assert width <= look["width"]
    outside = """return [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1
        && !e.closest('.wide, svg')).map((e) => e.tagName + '.' + e.className)"""
    assert js(browser, outside) == []


@pytest.mark.parametrize("look", LOOKS)
def test_page_text_has_enough_contrast(open_page: Open, look: dict[str, Any]) -> None:
    assert js(open_page(**look), CONTRAST) == []


def test_page_follows_the_systems_colour_scheme(open_page: Open) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    light, dark = js(open_page(), background), js(open_page(dark=True), background)
    assert light != dark


def test_page_shows_one_bar_per_stretch_save_and_fetch_and_one_flag_per_incident(
    open_page: Open, report: Report
) -> None:
    browser = open_page()
    shown = js(
        browser,
        """const n = (s) => document.querySelectorAll('#lanes ' + s).length;
        return [n('.stretch0') + n('.stretch1'), n('.committed'), n('.fetch'), n('.flag'), n('.span')]""",
    )
    assert shown == [
        len(report.lanes),
        len(report.saves),
        len(report.stagings),
        len(report.incidents),
        len(report.spans),
    ]
    assert js(browser, "return document.querySelectorAll('tr[data-begin]').length") == len(
        report.incidents
    )


def test_page_marks_where_another_worker_takes_a_rank(open_page: Open) -> None:
    browser = open_page()
    places = """return [...document.querySelectorAll('#lanes .replaced')].map((e) => e.previousElementSibling.dataset.tip)"""
    (told,) = js(browser, places)
    assert told.startswith("Rank 1 in generation 2: w0003")


def test_page_draws_every_point_of_loss_and_throughput(open_page: Open, report: Report) -> None:
    browser = open_page()
    drawn = js(
        browser,
        "return ['loss', 'rate'].map((id) => document.querySelector(`#${id} .curve`).getAttribute('d').match(/[ML]/g).length)",
    )
    assert drawn == [len(report.series)] * 2


def test_page_switches_between_steps_and_time_and_back(open_page: Open) -> None:
    browser = open_page()
    curve = "return document.querySelector('#loss .curve').getAttribute('d')"
    labels = (
        "return [...document.querySelectorAll('#loss text')].map((t) => t.textContent).join(' ')"
    )
    by_step = js(browser, curve)
    browser.find_element("css selector", "[data-axis=t]").click()
    assert js(browser, curve) != by_step
    assert " s" in js(browser, labels)
    assert (
        js(browser, "return document.querySelector('[data-axis=t]').getAttribute('aria-pressed')")
        == "true"
    )
    browser.find_element("css selector", "[data-axis=step]").click()
    assert js(browser, curve) == by_step


def test_page_draws_the_loss_on_a_logarithmic_scale_on_request(open_page: Open) -> None:
    browser = open_page()
    curve = "return document.querySelector('#loss .curve').getAttribute('d')"
    linear = js(browser, curve)
    browser.find_element("css selector", "[data-scale=log]").click()
    assert js(browser, curve) != linear


def test_pointing_at_the_loss_reads_the_nearest_point(open_page: Open, report: Report) -> None:
    from selenium.webdriver import ActionChains

    browser = open_page()
    plot = browser.find_element("css selector", "#loss svg")
    ActionChains(browser).move_to_element_with_offset(
        plot, plot.size["width"] // 2 - 15, 0
    ).perform()
    last = report.series[-1]
    assert js(browser, "return document.getElementById('readout').textContent").startswith(
        f"step {last.step:,} · "
    )


def test_arrow_keys_walk_along_the_curve(open_page: Open, report: Report) -> None:
    from selenium.webdriver import Keys

    browser = open_page()
    browser.find_element("id", "loss").send_keys(Keys.ARROW_RIGHT + Keys.ARROW_RIGHT)
    assert js(browser, "return document.getElementById('readout').textContent").startswith(
        f"step {report.series[1].step:,} · "
    )


def test_tap_on_a_worker_tells_its_process_and_node(open_page: Open) -> None:
    browser = open_page(width=360, height=740, touch=True)
    place = js(
        browser,
        """const bar = document.querySelector('#lanes .stretch1'); bar.scrollIntoView({block: 'center'});
        const box = bar.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]""",
    )
    point = [{"x": place[0], "y": place[1]}]
    browser.execute_cdp_cmd(
        "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": point}
    )
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    told = js(browser, "return document.getElementById('detail').textContent")
    assert told.startswith("Rank 0 in generation 1: w0001, pid 100, on node-a")


@pytest.mark.parametrize("way", ["click", "enter"])
def test_choosing_an_incident_zooms_into_it_and_back(open_page: Open, way: str) -> None:
    from selenium.webdriver import Keys

    browser = open_page()
    row = browser.find_element("css selector", "tr[data-begin]")
    whole = browser.find_element("id", "whole")
    assert not whole.is_displayed()
    before = js(
        browser,
        "return document.querySelector('#lanes .span.recovery').getBoundingClientRect().width",
    )
    row.click() if way == "click" else row.send_keys(Keys.ENTER)
    after = js(
        browser,
        "return document.querySelector('#lanes .span.recovery').getBoundingClientRect().width",
    )
    assert after > 10 * before
    assert "went on with 2 workers" in js(
        browser, "return document.getElementById('detail').textContent"
    )
    whole.click()
    assert not whole.is_displayed()


def test_page_redraws_when_the_window_changes(open_page: Open) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser = open_page()
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 500, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    fits = "const s = document.querySelector('#loss svg'); return Number(s.getAttribute('width')) <= 500"
    WebDriverWait(browser, 10).until(lambda _: js(browser, fits))
    assert js(browser, "return document.documentElement.scrollWidth") <= 500


def test_tables_fold_on_a_phone_and_open_at_a_touch(open_page: Open) -> None:
    count = "return [...document.querySelectorAll('details.fold')].map((d) => d.open)"
    assert all(js(open_page(), count)), "wide, everything is there to be read and searched"
    browser = open_page(width=390, height=844, touch=True)
    assert not any(js(browser, count))
    browser.find_element("css selector", "details.fold summary").click()
    assert js(browser, count).count(True) == 1


def test_incident_line_says_which_one_it_is(open_page: Open) -> None:
    labels = (
        "return [...document.querySelectorAll('#loss .incident-label')].map((t) => t.textContent)"
    )
    assert js(open_page(), labels) == ["died, rank 1"]


def test_smoothed_loss_stands_beside_the_raw_one(open_page: Open, report: Report) -> None:
    drawn = js(
        open_page(),
        "return ['raw', 'smooth'].map((kind) => document.querySelector(`#loss .${kind}`).getAttribute('d').match(/[ML]/g).length)",
    )
    assert drawn == [len(report.series)] * 2


def test_curve_has_a_gap_where_the_loss_is_no_number(open_page: Open, tmp_path: Path) -> None:
    output = open_location(str(tmp_path / "run"))
    losses = [1.0, 1.0, "nan", 1.0, "nan", *[1.0] * 6]
    told = [journals.progress(10 + at, 500 + at, loss=loss) for at, loss in enumerate(losses)]
    recorded_run(output, [*journals.beginning(), *told]).release()
    write_report(output.url, str(tmp_path / "report.html"))
    curves = (
        "['loss .raw', 'loss .smooth', 'rate .curve'].map((c) => document.querySelector(`#${c}`))"
    )
    letters = f"return {curves}.map((path) => path.getAttribute('d').replace(/[^ML]/g, ''))"
    drawn = js(open_page(url=(tmp_path / "report.html").as_uri()), letters)
    assert drawn == ["MLMMLLLLL"] * 2 + ["M" + 10 * "L"]


def test_numbers_beside_the_axes_stand_within_the_drawing_where_the_loss_is_tiny(
    open_page: Open, tmp_path: Path
) -> None:
    """The zeros of 0.00005 were cut off, and the step from which a run began was called -0."""
    output = open_location(str(tmp_path / "run"))
    told = [journals.progress(10 + at, at, loss=at * 2e-5) for at in range(8)]
    recorded_run(output, [*journals.beginning(), *told]).release()
    write_report(output.url, str(tmp_path / "report.html"))
    browser = open_page(url=(tmp_path / "report.html").as_uri())
    labels = "[...document.querySelectorAll('#loss text, #rate text')]"
    found = js(browser, f"return {labels}.map((t) => [t.textContent, t.getBBox().x])")
    assert any("e-5" in text for text, _ in found)
    assert "-0" not in [text for text, _ in found]
    assert all(x >= 0 for _, x in found), found
