"""Which steps a chart shows."""

import pytest

from sft_tui.curves import Curves, Evaluated
from sft_tui.screen import charted
from sft_tui.screen.charted import Charted
from sft_tui.screen.run_contents import Selection


@pytest.mark.parametrize(
    ("step", "total", "last"), [(1, 939, 64), (65, 939, 128), (600, 939, 939), (10, 20, 20), (9, 0, 64)]
)
def test_the_axis_of_a_growing_run_rarely_changes(step: int, total: int, last: int) -> None:
    assert charted.edge(step, total) == last


def test_a_chart_without_a_run_has_an_axis() -> None:
    assert Charted({}).shown(Selection()) == (1, 1)
    assert Charted({"a": Curves()}).steps == 0


def of_steps(last: int) -> Charted:
    curves = Curves()
    for name in curves.of:
        curves.of[name].add(last, 1.0)
    return Charted({"a": curves})


@pytest.mark.parametrize("across", [1, 7, 60, 300])
@pytest.mark.parametrize("window", [0, 16, 100])
def test_the_cursor_reaches_every_column_and_stays_in_the_window(across: int, window: int) -> None:
    shown = of_steps(1000)
    selection = shown.at(Selection(window=window), 1000)
    seen = []
    for _ in range(1200):
        seen.append(selection.cursor)
        first, last = shown.shown(selection)
        assert first <= selection.cursor <= last
        under = shown.under(selection, across)
        assert under[0] <= selection.cursor <= under[1]
        selection = shown.moved(selection, -1, across)
    assert seen == sorted(seen, reverse=True)
    assert selection.cursor <= max(1, 1000 // across)
    assert shown.moved(selection, 1 << 30, across).cursor == 1000


def test_an_evaluation_of_the_first_model_begins_the_axis() -> None:
    shown = of_steps(50)
    assert shown.start == 1
    shown.runs["a"].evaluations.append(Evaluated(0, {"bleu": 1.0}))
    assert shown.shown(Selection())[0] == 0
    (series,) = shown.plot("bleu", Selection(), 100).series
    assert series.points == [(0, 1.0)]


def test_a_metric_that_a_run_lacks_has_no_values() -> None:
    shown = of_steps(50)
    assert [series.points for series in shown.plot("bleu", Selection(metric="bleu"), 100).series] == [[]]
