"""Is the report one page that needs nothing but itself, and does it say what it should?"""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path

import pytest

from launch.cli import run
from launch.report.make import make_report
from launch.report.page import page, tiles
from launch.report.tables import Cell, table
from orchestrator.store.objects.location import Location, open_location
from tests.launch import journals
from tests.launch.runs import recorded_run, unreadable_checkpoint

VOID = {"meta", "link", "br"}


class Tags(html.parser.HTMLParser):
    """Collects attributes that could load something, ids, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loaded += [str(values[name]) for name in ("src", "href", "action") if values.get(name)]
        self.ids += [str(values["id"])] if "id" in values else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def output(tmp_path: Path) -> Location:
    return open_location(str(tmp_path / "more"))


def made(output: Location) -> str:
    return page(make_report(output.url))


def test_page_loads_nothing_and_is_well_formed(output: Location) -> None:
    recorded_run(output).release()
    tags = Tags()
    tags.feed(made(output))
    tags.close()
    assert tags.open == []
    assert tags.loaded == ["data:,"]
    assert len(tags.ids) == len(set(tags.ids))


def test_page_forbids_itself_every_request(output: Location) -> None:
    recorded_run(output).release()
    assert "default-src 'none'" in made(output)
    assert "://" not in re.sub(r"http://www.w3.org/2000/svg|gs://b/\w+", "", made(output))


def test_page_data_is_json_that_no_text_can_break_out_of(output: Location) -> None:
    nasty = "</script><script>alert(1)</script>{{run}}"
    events = [
        *journals.beginning(),
        journals.event(
            30, "incident", kind=nasty, rank=1, node=nasty, recovered_s=1.0, reason=nasty
        ),
    ]
    recorded_run(output, events).release()
    text = made(output)
    assert "<script>alert" not in text
    data = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert json.loads(data)["incidents"][0]["reason"] == nasty


def test_page_lists_checkpoints_with_their_state(output: Location) -> None:
    recorded_run(output).release()
    unreadable_checkpoint(output, 1100)
    text = made(output)
    assert "a0001-g0001/model.ckpt-1100" in text
    assert '<span class="chip bad">corrupt</span>' in text
    assert "model.ckpt-1100.index is missing" in text
    assert tiles(make_report(output.url))[3] == ("none", "no good checkpoint; 1 can't be used")


def test_tiles_of_a_run_tell_step_goodput_incidents_and_checkpoint(output: Location) -> None:
    recorded_run(output).release()
    step, useful, incidents, checkpoint = tiles(make_report(output.url))
    assert step == ("2,000", "step of 2,000, from 500")
    assert useful[0].endswith(" %")
    assert incidents == ("1", "incident, no step lost")
    assert checkpoint == ("none", "no checkpoint yet")


def test_page_of_a_run_that_died_before_its_first_word_is_made_all_the_same(
    output: Location,
) -> None:
    recorded_run(output, []).release()
    text = made(output)
    assert "Nothing went wrong." in text
    assert "stopped" in text


def test_table_escapes_what_it_shows_and_counts_what_it_leaves_out() -> None:
    rows = [("<b>", Cell(1, number=True))] * 501
    text = table(("a", "b"), rows)
    assert "<b>" not in text
    assert "and 1 more" in text


def test_command_report_writes_the_page_where_it_is_told(output: Location, tmp_path: Path) -> None:
    recorded_run(output).release()
    assert run(["report", output.url, "-o", str(tmp_path / "report.html")]) == 0
    assert "tfresume report" in (tmp_path / "report.html").read_text()


def test_command_report_of_no_run_is_refused_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(tmp_path / "nothing"), "-o", str(tmp_path / "report.html")]) == 2
    assert "there is no run" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_command_report_never_writes_a_credential(
    output: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_SECRET", "pl4nted-s3cret-value")
    events = [
        *journals.beginning(config_note="pl4nted-s3cret-value"),
        journals.event(40, "give_up", reason="key=pl4nted-s3cret-value"),
    ]
    recorded_run(
        output, events, config={"input": "s3://AKIAABCDEFGHIJKLMNOP:abcdefgh12345678@b/x"}
    ).release()
    assert run(["report", output.url, "-o", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "pl4nted-s3cret-value" not in text
    assert "abcdefgh12345678" not in text


def test_page_shows_a_bar_a_rank_of_what_a_step_takes_and_what_limits_it(
    output: Location,
) -> None:
    recorded_run(output, journals.whole_run()).release()
    text = made(output)
    section = text.split('id="h-slow"')[1].split("</section>")[0]
    assert section.count('class="bar"') == 2
    assert "50 ms a step lately; the others wait for rank 1, whose input takes 21 ms" in section
    assert "rank 1" in section
    assert "waiting for batches" in section


def test_page_without_step_times_has_no_such_section(output: Location) -> None:
    recorded_run(output, journals.beginning()).release()
    assert "What a step takes" not in made(output)


def test_legends_name_only_what_there_is(output: Location) -> None:
    events = [*journals.beginning(), journals.progress(10, 580), journals.finish(11, 600)]
    recorded_run(output, events).release()
    text = made(output)
    assert "a worker in its rank" in text
    for absent in (
        "save committed",
        "save that came to nothing",
        "another worker takes",
        "<span>none<",
    ):
        assert absent not in text
    assert "incident, until the first useful step" not in text
    assert "waiting for workers" not in text.split('class="legend"')[1].split("</ul>")[0]


def test_incident_row_names_the_budget_and_the_command_for_more(output: Location) -> None:
    recorded_run(output, journals.whole_run()).release()
    text = made(output)
    assert "loss 2 of 60 within an hour, 58 left" in text
    assert f"tfresume logs {output.shown} --worker w0002" in text


def test_checkpoints_are_shown_with_where_they_come_from(output: Location) -> None:
    recorded_run(output).release()
    unreadable_checkpoint(output, 1100)
    text = made(output)
    assert 'data-label="went on from"' in text
    assert "attempt 1, generation 1 from step 0" in text
