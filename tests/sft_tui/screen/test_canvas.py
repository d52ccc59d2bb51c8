"""The widget that redraws only the cells that changed."""

import pytest
from textual.geometry import Region

from sft_tui.screen.canvas import Canvas
from sft_tui.screen.ink import Ink, Line


def line(text: str, role: str = "") -> Line:
    return [(text, role)]


@pytest.fixture
def redrawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Region, ...]]:
    """The regions of each redraw; () is the whole screen."""
    drawn: list[tuple[Region, ...]] = []
    monkeypatch.setattr(Canvas, "refresh", lambda _canvas, *regions, **_: drawn.append(regions))
    return drawn


@pytest.mark.parametrize(
    ("old", "new", "regions"),
    [
        ("step 10 of 99", "step 11 of 99", [Region(6, 1, 1, 1)]),
        ("a" + "-" * 20 + "b", "x" + "-" * 20 + "y", [Region(0, 1, 22, 1)]),
        ("a--b", "x--y", [Region(0, 1, 4, 1)]),
        ("损失 1", "损耗 1", [Region(2, 1, 2, 1)]),
        ("ab失", "a损x", [Region(1, 1, 3, 1)]),
        ("ab", "abc", [Region(0, 1, 3, 1)]),
    ],
    ids=["one digit", "two far apart", "two close together", "a wide one", "half a wide one", "another length"],
)
def test_only_cells_that_changed_are_redrawn(
    redrawn: list[tuple[Region, ...]], old: str, new: str, regions: list[Region]
) -> None:
    canvas, ink = Canvas(), Ink()
    canvas.put([line("first"), line(old)], ink)
    redrawn.clear()
    canvas.put([line("first"), line(new)], ink)
    assert redrawn == [tuple(regions)]


def test_a_screen_that_stays_is_not_redrawn(redrawn: list[tuple[Region, ...]]) -> None:
    canvas, ink = Canvas(), Ink()
    for _ in range(3):
        canvas.put([line("first"), line("second")], ink)
    assert redrawn == [()]


def test_another_number_of_lines_redraws_all(redrawn: list[tuple[Region, ...]]) -> None:
    canvas, ink = Canvas(), Ink()
    canvas.put([line("first")], ink)
    canvas.put([line("first"), line("second")], ink)
    assert redrawn == [(), ()]


def test_a_change_of_colour_redraws_its_cells(redrawn: list[tuple[Region, ...]]) -> None:
    canvas, ink = Canvas(), Ink()
    canvas.put([line("same")], ink)
    canvas.put([line("same", "error")], ink)
    assert redrawn[1:] == [(Region(0, 0, 4, 1),)]
