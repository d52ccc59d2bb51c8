"""What the screen of all runs holds: order, filter, and the cursor."""

import dataclasses

from sft_tui.screen.runs_contents import RunsView
from tests.sft_tui.screen.conftest import run_of, runs_screen, story


def test_the_cursor_follows_its_run_through_changes() -> None:
    view = runs_screen()
    assert view.here is not None
    name = view.here.name
    sorted_by_name = view.changed(order="run")
    assert [run.name for run in sorted_by_name.listed] == ["sft-small-2", "sft-small-3"]
    assert (sorted_by_name.cursor, sorted_by_name.here) == (0, view.here)
    newer, _ = run_of(story(), name="sft-small-4")
    grown = view.changed(runs=[newer, *view.runs])
    assert grown.here is not None
    assert grown.here.name == name


def test_the_cursor_stays_in_the_list() -> None:
    view = runs_screen()
    assert view.moved(99).cursor == 1
    assert view.moved(-99).cursor == 0
    assert view.changed(runs=[]).cursor == 0
    assert RunsView([]).here is None
    assert RunsView([]).charted.runs == {}
    assert view.changed(filter="sft-small-3").here == view.runs[0]


def test_one_marked_run_is_not_compared() -> None:
    view = runs_screen(marked=True)
    assert [run.name for run in view.compared] == ["sft-small-3", "sft-small-2"]
    one = dataclasses.replace(view, marked=frozenset({"sft-small-3"}))
    assert one.compared == []
    assert list(one.charted.runs) == ["sft-small-2"]  # the one under the cursor
