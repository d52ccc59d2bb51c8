"""The panel with the curves: zoom, axis, metrics and figures."""

import pytest

from sft_tui.screen import chart_panel, run_view
from tests.sft_tui.conftest import PLAN, STARTED, step
from tests.sft_tui.screen.conftest import (
    chart_rows,
    curve_screen,
    plain,
    run_of,
    run_screen,
)


def test_nan_is_a_gap_that_is_marked() -> None:
    assert "×" in plain(run_view.draw(run_screen(), 120, 39))


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (9.4972, "9.4972"),
        (9.5453, "9.5453"),
        (9.99999, "10.000"),
        (0.6, "0.6000"),
        (123.456, "123.46"),
        (99999.6, "100000"),
    ],
)
def test_a_loss_has_all_digits_that_its_columns_hold(loss: float, shown: str) -> None:
    run, _ = run_of(iter([STARTED, PLAN, step(9, loss=loss)]))
    figures = "".join(text for text, _ in chart_panel.figures(run.state, "en", 80))
    assert f"train {shown} " in figures
    assert figures.index("eval") == len("train 123456 ")


def test_a_run_without_padding_says_so() -> None:
    shown = plain(run_view.draw(curve_screen("padding", tokens=64, padded_tokens=64), 80, 23))
    assert "0 throughout" in shown
    assert "e-09" not in shown


def test_padding_is_between_0_and_100_percent() -> None:
    lines = plain(run_view.draw(curve_screen("padding", tokens=48, padded_tokens=64), 80, 23)).splitlines()
    assert any(line.startswith("│   100 %") for line in lines)
    assert any(line.startswith("│     0 %") for line in lines)


def test_the_learning_rate_is_one_true_curve() -> None:
    lines = chart_rows(curve_screen("lr"))
    assert not any(role == "dim" and any(char > "\u2800" for char in text) for line in lines for text, role in line)
    highest = next(number for number, line in enumerate(lines) if any(role == "chart" for _, role in line))
    assert highest == 1  # its first value is its highest: a smoothed curve lies below it
