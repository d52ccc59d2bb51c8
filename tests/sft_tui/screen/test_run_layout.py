"""The panels of a run's screen: what is drawn in a cell is what the mouse finds there."""

from dataclasses import replace

import pytest

from sft_tui.screen import run_layout, run_view
from sft_tui.screen.actions import RUN, of_scope
from sft_tui.screen.ink import Line
from sft_tui.screen.run_contents import RunView
from sft_tui.screen.run_layout import PANELS, Draw
from tests.sft_tui.screen.conftest import KILLED, SIZES, plain, run_screen

ODD_SIZES = [(60, 20), (61, 29), (99, 41), (100, 30), (101, 31), (137, 33), (237, 71)]
MARKS = {"chart": "a", "samples": "b", "log": "c", "machine": "d", "settings": "e"}


def marking(mark: str) -> Draw:
    """Fills a panel with one letter."""
    return lambda _view, width, height: [[(mark * width, "")] for _ in range(height)]


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every panel is a field of its letter."""
    for name, panel in PANELS.items():
        mark = marking(MARKS[name])
        monkeypatch.setitem(PANELS, name, replace(panel, draw=mark, page=None, brief=mark if panel.brief else None))


@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize("killed", [False, True], ids=["alive", "ended"])
@pytest.mark.parametrize(("width", "height"), [*SIZES, *ODD_SIZES])
@pytest.mark.parametrize("page", ["all", "log"])
def test_every_cell_belongs_to_the_panel_that_draws_it(page: str, width: int, height: int, killed: bool) -> None:
    view = run_screen(ended=KILLED if killed else None, page=page)
    top = len(run_view.header(view, width))
    areas = run_view.areas_of(view, width, height - 1)
    for y, row in enumerate(plain(run_view.draw(view, width, height - 1)).splitlines()):
        here = [area for area in areas if area.holds(0, y) or area.holds(width - 1, y)]
        found = "".join(MARKS[area.name] for x in range(width) for area in here if area.holds(x, y))
        assert found == ("" if y < top else row)
    for area in areas:
        for x, y in ((area.x, area.y), (area.x + area.width - 1, area.y + area.height - 1)):
            assert run_view.area_at(view, width, height - 1, x, y) == area
    assert run_view.area_at(view, width, height - 1, width // 2, top - 1) is None


def shown(view: RunView, width: int, height: int) -> set[str]:
    return {area.name for area in run_view.areas_of(view, width, height - 1)}


def test_all_panels_are_on_a_large_screen_and_each_has_a_page() -> None:
    assert shown(run_screen(), 120, 40) == set(PANELS) - {"settings"}
    assert shown(run_screen(), 80, 24) == {"chart", "machine", "log"}
    for name in PANELS:
        assert shown(run_screen(page=name), 80, 24) == {name}


def test_a_low_screen_has_the_machine_and_the_log_without_frames() -> None:
    lines: list[Line] = run_view.draw(run_screen(), 80, 10)
    assert shown(run_screen(), 80, 11) == {"machine", "log"}
    assert "┌" not in plain(lines)
    assert "checkpoint of step 60 saved" in plain(lines)


def test_keys_of_a_panel_are_actions_of_the_screen() -> None:
    names = {action.name for action in of_scope(RUN)}
    assert {action for panel in PANELS.values() for action in panel.actions} <= names


@pytest.mark.parametrize(
    ("name", "field", "turned"), [("chart", "window", 36), ("samples", "sample", 1), ("log", "log_back", 3)]
)
def test_the_wheel_acts_on_the_panel_under_it(name: str, field: str, turned: int) -> None:
    view = run_screen()
    (area,) = [area for area in run_view.areas_of(view, 120, 39) if area.name == name]
    found = run_view.area_at(view, 120, 39, area.x, area.y)
    assert found is not None
    assert found.panel.wheel is not None
    by = 1 if name == "samples" else -1
    assert getattr(found.panel.wheel(view, by), field) == turned


def test_keys_scroll_only_what_is_shown() -> None:
    assert {name for name in PANELS if run_layout.PANELS[name].keys is not None} == {
        "settings",
        "samples",
        "log",
        "machine",
    }
