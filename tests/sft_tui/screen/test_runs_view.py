"""The list of runs, and runs compared."""

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui.listing import COLUMNS
from sft_tui.notes import Note
from sft_tui.screen import runs_view
from sft_tui.screen.ink import Ink
from sft_tui.screen.runs_contents import PAGES, RunsView
from tests.sft_tui.conftest import STARTED
from tests.sft_tui.screen.conftest import (
    HEIGHTS,
    SIZES,
    WIDTHS,
    exact,
    plain,
    run_of,
    runs_screen,
    story,
)


@pytest.mark.parametrize("ascii_only", [False, True])
def test_compared_curves_differ_without_colours(ascii_only: bool) -> None:
    view = dataclasses.replace(runs_screen(marked=True), ink=Ink("none", ascii_only))
    shown = plain(runs_view.draw(view, 120, 39))
    assert " 1 sft-small-3 " in shown
    assert "▸2 sft-small-2 " in shown
    assert re.search("[⠀-⣿2]2?1|2{9}", shown)


def test_nothing_is_said_of_runs_that_were_not_looked_for() -> None:
    unread, read = RunsView([], read=False), RunsView([])
    assert "No runs yet" not in plain(runs_view.draw(unread, 80, 23))
    assert "reading" in plain(runs_view.draw(unread, 80, 23))
    assert "No runs yet" in plain(runs_view.draw(read, 80, 23))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_selected_run_shows_its_end_and_folder(width: int, height: int) -> None:
    shown = plain(runs_view.draw(runs_screen(), width, height - 1))
    details = [line.split("││")[0] if "││" in line else line for line in shown.splitlines()]
    assert "the weights were not updated" in " ".join(" ".join(details).replace("│", " ").split())
    assert "/srv/train/logs/sft-small-2" in shown


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_click_finds_its_run(width: int, height: int, marked: bool) -> None:
    view = runs_screen(marked=marked)
    lines = plain(runs_view.draw(view, width, height - 1)).splitlines()
    for place, run in enumerate(view.runs):
        y = next(y for y, line in enumerate(lines) if f" {run.name} " in line and "71/100" in line)
        assert runs_view.run_at(view, width, height - 1, y) == place
    assert runs_view.run_at(view, width, height - 1, height - 2) == -1


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("width", "shown"), [(50, 4), (80, 6), (92, 7), (160, 9)])
def test_a_list_of_runs_shows_only_whole_columns(lang: Lang, width: int, shown: int) -> None:
    view = runs_screen(lang)
    long = dataclasses.replace(view.runs[0], run_dir=RunDir(Path("logs") / ("sft-small-" + "long" * 12)))
    head, *rows = plain(runs_view.draw(view, width, 30)).splitlines()[1:4]
    titles = [say(f"column.{column}", lang) for column in COLUMNS if column != "tags"]
    assert [title in head for title in titles] == [place < shown for place in range(len(titles))]
    assert "…" not in "".join([head, *rows]) or shown == 9
    longer = plain(runs_view.draw(dataclasses.replace(view, runs=[long], cursor=0), width, 30)).splitlines()[2]
    assert "71/100" in longer


def test_tags_have_a_column_if_a_run_has_one() -> None:
    view = dataclasses.replace(runs_screen(), notes={"sft-small-2": Note("with the new data", ["data-2", "keep"])})
    shown = plain(runs_view.draw(view, 140, 40))
    assert "TAGS" in shown
    assert "#data-2 #keep" in shown
    assert "with the new data #data-2 #keep" in shown  # in the details
    assert "TAGS" not in plain(runs_view.draw(runs_screen(), 140, 40))


def test_the_column_that_sorts_is_marked() -> None:
    view = runs_screen(order="eval")
    assert "EVAL▾" in plain(runs_view.draw(view, 120, 40))
    assert "▾ STARTED" in plain(runs_view.draw(runs_screen(), 80, 24))  # the column itself is not on the screen


def test_a_filter_leaves_the_runs_that_have_its_words() -> None:
    view = runs_screen(filter="MEMORY")
    assert [run.name for run in view.listed] == ["sft-small-2"]
    assert "/MEMORY 1 of 2" in plain(runs_view.draw(view, 120, 40))
    assert "No run has “nothing”." in plain(runs_view.draw(runs_screen(filter="nothing"), 80, 24))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_run_under_the_cursor_has_its_curve(width: int, height: int) -> None:
    shown = plain(runs_view.draw(runs_screen(), width, height - 1))
    assert "Loss" in shown
    assert re.search("[⠀-⣿]", shown)
    assert runs_view.chart_size(runs_screen(), width, height - 1)[0] > 0
    assert runs_view.chart_size(runs_screen(), 60, 19) == (0, 0)


@settings(max_examples=25, deadline=None)
@given(
    width=WIDTHS,
    height=HEIGHTS,
    count=st.integers(0, 6),
    marked=st.integers(0, 6),
    page=st.sampled_from(PAGES),
    lang=st.sampled_from(["en", "zh"]),
    unread=st.booleans(),
)
def test_any_number_of_runs_fits_any_size(
    width: int, height: int, count: int, marked: int, page: str, lang: Lang, unread: bool
) -> None:
    found = [run_of(story() if n % 2 else iter([STARTED]), name=f"run-{n}", alive=n == 0) for n in range(count)]
    runs = [run for run, _ in found]
    curves = {run.name: curves for run, curves in found if not unread}
    names = frozenset(run.name for run in runs[:marked])
    view = RunsView(runs, 0, names, curves, page=page, whole=unread, scrolled=3, lang=lang)
    exact(runs_view.draw(view, width, height), width, height)
    assert runs_view.most_scrolled(view, width, height) >= 0
