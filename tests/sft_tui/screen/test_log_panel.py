"""The panel with the log: paging, search and lines that are left out."""

import dataclasses

import pytest

from sft_tui.log_lines import Earlier, Gap, LogLine
from sft_tui.screen import log_panel, run_view
from sft_tui.screen.run_contents import RunView, Selection
from tests.sft_tui.screen.conftest import (
    SIZES,
    log_of,
    plain,
    run_of,
    run_screen,
    story,
)


def test_a_scrolled_back_log_does_not_jump() -> None:
    run, curves = run_of(story())
    log = [LogLine("00:00:00", "note", f"line {n}") for n in range(60)]
    back = Selection(page="log", log_back=20)
    before = plain(run_view.draw(RunView(run, curves, log, back), 80, 23))
    more = [*log, *(LogLine("00:00:01", "note", f"line {n}") for n in range(60, 67))]
    after = plain(run_view.draw(RunView(run, curves, more, back.kept(7, 0)), 80, 23))
    assert before.replace("20 back", "27 back") == after
    assert Selection().kept(7, 7) == Selection()
    assert Selection(window=40, back=10).kept(0, 5).back == 15
    assert Selection(window=40).kept(0, 5).back == 0


def test_a_full_screen_log_shows_long_lines_whole() -> None:
    run, curves = run_of(story())
    log = [LogLine("00:00:00", "error", "为什么 " * 40 + "the-end"), LogLine("00:00:01", "note", "next")]
    assert "the-end" in plain(run_view.draw(RunView(run, curves, log, Selection(page="log")), 120, 39))
    assert "the-end" not in plain(run_view.draw(RunView(run, curves, log, Selection()), 120, 39))


@pytest.mark.parametrize("page", ["all", "log"])
@pytest.mark.parametrize(("width", "height"), [*SIZES, (60, 20)])
def test_the_beginning_of_the_log_fills_a_page(page: str, width: int, height: int) -> None:
    view = dataclasses.replace(run_screen(page=page), log=log_of(300))
    far = dataclasses.replace(view, selection=dataclasses.replace(view.selection, log_back=10**6))
    back = run_view.within_limits(far, width, height - 1).log_back
    first = dataclasses.replace(view, selection=dataclasses.replace(view.selection, log_back=back))
    shown = plain(run_view.draw(first, width, height - 1))
    (rows,) = [area.inside[1] for area in run_view.areas_of(view, width, height - 1) if area.name == "log"]
    assert [number for number in range(1, 301) if f"line {number}." in shown] == list(range(1, rows + 1))
    one_less = dataclasses.replace(view, selection=dataclasses.replace(view.selection, log_back=back - 1))
    assert "line 1." not in plain(run_view.draw(one_less, width, height - 1))


def test_lines_left_out_of_the_log_are_marked() -> None:
    steps = [LogLine("09:14:07", "step", f"{number}/100", number) for number in range(90, 100)]
    first = [LogLine("09:14:07", "step", f"{number}/100", number) for number in (1, 2)]
    earlier = Earlier(Gap(412, 3), Gap(94_120, 90), 0.34)
    view = dataclasses.replace(run_screen(page="log", level="all"), log=[*first, *steps], earlier=earlier)
    lines = [line.text for line in log_panel.shown_lines(view)]
    assert lines[:3] == ["… reading what is before, 34 %", "1/100", "2/100"]
    gaps = [
        "… 412 lines left out: see `sft-tui logs sft-small-3`",
        "… 94,120 steps left out: see `sft-tui logs sft-small-3`",
    ]
    assert sorted(lines[3:5]) == gaps
    assert lines[5] == "90/100"
    notes = dataclasses.replace(view, selection=dataclasses.replace(view.selection, level="notes"))
    assert [line.text for line in log_panel.shown_lines(notes)] == [lines[0], gaps[0]]


def test_a_search_that_finds_nothing_says_so() -> None:
    view = run_screen(page="log", search="confguration")
    assert "No line has “confguration”." in plain(run_view.draw(view, 80, 23))
    view = run_screen("zh", page="log", search="confguration")
    assert "没有含“confguration”的行。" in plain(run_view.draw(view, 80, 23))
