"""Compared runs: their pages at any size."""

import dataclasses
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from sft_tui.lineage import MODEL, Link
from sft_tui.screen import compare_view
from sft_tui.screen.runs_contents import PAGES, RunsView
from tests.sft_tui.screen.conftest import HEIGHTS, SIZES, WIDTHS, exact, plain, run_of, runs_screen, story


def page(name: str, width: int = 80, height: int = 18, **more: object) -> str:
    view = dataclasses.replace(runs_screen(marked=True), page=name, **more)  # type: ignore[arg-type]
    return plain(compare_view.draw(view, width, height))


def several(count: int) -> RunsView:
    found = [run_of(story(), name=f"sft-small-of-the-second-try-{n}") for n in range(1, count + 1)]
    names = frozenset(run.name for run, _ in found)
    return RunsView([run for run, _ in found], 0, names, {run.name: curves for run, curves in found})


@pytest.mark.parametrize(("width", "height"), [*SIZES, (60, 20)])
def test_only_what_differs_is_shown_and_the_rest_counted(width: int, height: int) -> None:
    shown = page("differences", width, height)
    (line,) = [line for line in shown.splitlines() if "! learn_rate" in line]
    assert "5e-05" in line
    assert "3e-05" in line
    assert "train_file" not in shown
    assert re.search(r"\d+ the same \(v: show\)", shown)


def test_all_settings_are_shown_if_wanted() -> None:
    shown = page("differences", 80, 80, whole=True)
    assert "train_file" in shown
    assert "! train_file" not in shown
    assert "the same" not in shown


def test_paths_that_differ_at_their_end_show_the_end() -> None:
    view = dataclasses.replace(runs_screen(marked=True), page="differences")
    for run, model in zip(view.runs, ("one", "two"), strict=True):
        run.record.config["pretrained_model"] = f"model_save/a-long-way/to-the-model/{model}"
    lines = plain(compare_view.draw(view, 80, 18)).splitlines()
    (line,) = [line for line in lines if "! pretrained_model" in line]
    assert "/one " in line
    assert "/two " in line


def test_compared_runs_and_paths_are_distinguished() -> None:
    view = dataclasses.replace(several(3), page="differences")
    places = ("model_save/model", os.path.abspath("model_save/model"), "./model_save/model")
    for run, place in zip(view.runs, places, strict=True):
        run.record.config["pretrained_model"] = place
    shown = plain(compare_view.draw(view, 120, 30))
    for number in (1, 2, 3):
        assert re.search(rf"{number} …\S*try-{number} ", shown), shown
    assert "! pretrained_model" not in shown


def test_replies_to_the_same_prompt_stand_next_to_each_other() -> None:
    view = dataclasses.replace(runs_screen(marked=True), page="replies")
    one, other = view.runs
    said = [dataclasses.replace(sample, prediction="一般没有危险。") for sample in other.state.samples]
    other = dataclasses.replace(other, state=dataclasses.replace(other.state, samples=tuple(said)))
    lines = plain(compare_view.draw(dataclasses.replace(view, runs=[one, other]), 80, 18)).splitlines()
    assert any("没有危险。。" in line and "一般没有危险。" in line for line in lines)
    assert sum("肝穿刺活检是否有危险？" in line for line in lines) == 1


def test_replies_of_many_runs_stand_below_each_other_on_a_small_screen() -> None:
    shown = plain(compare_view.draw(dataclasses.replace(several(4), page="replies"), 60, 18))
    for number in range(1, 5):
        assert re.search(rf"│ {number} 没有危险", shown)


def test_a_run_that_was_not_asked_has_a_dash() -> None:
    view = dataclasses.replace(runs_screen(marked=True), page="replies")
    one, other = view.runs
    more = events.Sample(2, 60, 7, "another prompt", "another answer", "its reply")
    other = dataclasses.replace(other, state=dataclasses.replace(other.state, samples=(more,)))
    shown = plain(compare_view.draw(dataclasses.replace(view, runs=[one, other]), 80, 18))
    assert re.search(r"- +its reply", shown)


def test_the_tree_shows_which_run_began_from_which() -> None:
    shown = page("lineage", links={"sft-small-3": [Link("sft-small-2", MODEL, 60)]})
    assert shown.index("sft-small-2") < shown.index("└ sft-small-3")
    assert "from sft-small-2 (best of step 60)" in shown
    assert "None of them began from another run." in page("lineage")


def test_pages_follow_each_other_and_two_fit_on_a_wide_screen() -> None:
    name, seen = "chart", []
    for _ in PAGES:
        seen.append(name)
        name = compare_view.next_page(name, 80)
    assert tuple(seen) == PAGES
    assert compare_view.next_page("chart", 120) == "replies"
    wide = page("chart", 120, 30)
    assert "Loss" in wide
    assert "What differs" in wide
    assert "Loss" not in page("differences")


def test_a_page_can_be_scrolled_to_its_end() -> None:
    view = dataclasses.replace(runs_screen(marked=True), page="differences", whole=True)
    most = compare_view.most_scrolled(view, 80, 18)
    assert most > 20
    first = plain(compare_view.draw(view, 80, 18))
    assert "↓" in first
    last = plain(compare_view.draw(dataclasses.replace(view, scrolled=most + 99), 80, 18))
    assert "↓" not in last
    assert "1 sft-small-3" in last
    assert compare_view.most_scrolled(dataclasses.replace(view, page="chart"), 80, 18) == 0


@settings(max_examples=25, deadline=None)
@given(width=WIDTHS, height=HEIGHTS, count=st.integers(2, 6), name=st.sampled_from(PAGES), whole=st.booleans())
def test_any_page_fits_any_size(width: int, height: int, count: int, name: str, whole: bool) -> None:
    view = dataclasses.replace(several(count), page=name, whole=whole, scrolled=5)
    exact(compare_view.draw(view, width, height), width, height)
