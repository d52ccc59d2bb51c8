"""The panel with the curves: zoom, axis, metrics and figures."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.events import Envelope, Record
from sft_tui.curves import CHARTS, Curves
from sft_tui.screen import chart_panel, run_view
from sft_tui.screen.charted import Charted
from sft_tui.screen.ink import Ink
from sft_tui.screen.run_contents import RunView, Selection
from tests.sft_tui.conftest import PLAN, STARTED, step
from tests.sft_tui.screen.conftest import (
    HEIGHTS,
    WIDTHS,
    chart_rows,
    curve_screen,
    exact,
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


def titles(view: RunView, width: int, height: int) -> list[str]:
    lines = plain(chart_panel.draw(view, width, height)).splitlines()
    return [part.split(" ─")[0] for line in lines for part in line.split("┌ ")[1:]]


def page(**selected: Any) -> RunView:
    return run_screen(page="chart", **selected)


def test_the_legend_says_what_the_signs_are() -> None:
    assert "▒ range  ─ mean of 24  ● eval ┐" in plain(chart_panel.draw(page(smoothing=24), 120, 30))
    assert "● eval  log ┐" in plain(chart_panel.draw(page(log_scale=True), 120, 30))
    assert "m machine  0 rank 0  1 rank 1 ┐" in plain(chart_panel.draw(page(metric="memory"), 120, 30))
    assert ". range  * mean" in plain(chart_panel.draw(replace(page(smoothing=0), ink=Ink(ascii=True)), 120, 30))


def test_a_narrow_frame_keeps_the_most_important_of_the_legend() -> None:
    top = plain(chart_panel.draw(page(log_scale=True, window=20), 44, 20)).splitlines()[0]
    assert top.startswith("┌ Loss ")
    assert "52–71" in top
    assert top.endswith("log ┐")
    assert "range" not in top


def test_a_wide_page_has_small_charts_of_the_next_metrics() -> None:
    assert titles(page(), 119, 39) == ["Loss"]
    assert titles(page(), 200, 57) == ["Loss", "BLEU", "chrF", "ROUGE-L", "Exact match (%)"]
    assert titles(page(metric="gpu_power"), 160, 20) == ["GPU power (W)", "GPU temperature (°C)", "Share of padding"]
    assert titles(run_screen(), 120, 34) == ["Loss", "BLEU", "chrF", "ROUGE-L"]


def test_the_cursor_is_in_all_charts_of_a_page() -> None:
    lines = plain(chart_panel.draw(page(cursor=35), 200, 57)).splitlines()
    assert lines[5].count("│") == 6
    assert "step 35  train" in lines[-2]
    assert chart_panel.main_size(page(), 200, 57)[0] == 134


def test_scores_and_the_curves_of_each_gpu_are_drawn() -> None:
    assert plain(chart_panel.draw(page(metric="bleu"), 120, 30)).count("●") == 3  # two, and one in the legend
    run, _ = run_of(iter([STARTED, PLAN]))
    curves = Curves()
    for number in range(1, 40):
        for index in (0, 1):
            curves.of["loss"].last = number
            gpu = events.Gpu(index, "card", {"utilization": str(40 + 10 * index + number)})
            curves.add(Record(Envelope("2026-01-01T00:00:00Z", 0.0, 1, "rank0", 0), gpu))
    drawn = chart_panel.draw(RunView(run, curves, [], Selection(metric="gpu_load")), 80, 24)
    assert "0 GPU 0  1 GPU 1 ┐" in plain(drawn)
    assert "100 %" in plain(drawn)
    assert {role for line in drawn for text, role in line if any(char > "\u2800" for char in text)} == {
        "chart",
        "chart2",
    }


def test_a_metric_without_values_says_so() -> None:
    assert "no such values" in plain(chart_panel.draw(curve_screen("gpu_load"), 80, 20))


@settings(max_examples=25, deadline=None)
@given(
    width=WIDTHS, height=HEIGHTS, metric=st.sampled_from(CHARTS), cursor=st.integers(0, 71),
    window=st.integers(0, 80), back=st.integers(0, 80), flags=st.tuples(*[st.booleans()] * 4),
)  # fmt: skip
def test_a_chart_can_have_any_size(
    width: int, height: int, metric: str, cursor: int, window: int, back: int, flags: tuple[bool, ...]
) -> None:
    log_scale, uncut, several, ascii_only = flags
    view = page(metric=metric, cursor=cursor, window=window, back=back, log_scale=log_scale, uncut=uncut)
    view = replace(view, ink=Ink(ascii=ascii_only), lang="zh")
    exact(chart_panel.draw(view, width, height), width, height)
    runs = {"a": view.curves, **({"b": curve_screen("loss").curves} if several else {})}
    exact(chart_panel.overlay(Charted(runs), view.selection, view.ink, "zh", width, height), width, height)


def test_compared_runs_have_their_evaluations_in_their_colours() -> None:
    runs = {"a": run_screen().curves, "b": run_screen().curves}
    for metric in ("loss", "bleu"):
        lines = chart_panel.overlay(Charted(runs), Selection(metric=metric), Ink(), "en", 100, 30)
        roles = {role for line in lines[1:] for text, role in line if "●" in text}
        assert roles == {"chart2"}  # the second run's, which are in the same places


def test_labels_and_legend_stand_still_while_a_run_continues() -> None:
    run, curves = run_of(iter([STARTED, events.Plan(1000, 500, 1000, 0, 16, 1, 1, "fp32", 512)]))
    edges, seen = [], Record(Envelope("2026-01-01T00:00:00Z", 0.0, 1, "rank0", 0), STARTED)
    for number in range(1, 500):
        noise = number * 7919 % 101 / 100 + (9 if number % 97 == 0 else 0)
        event = step(number, loss=2 + 6 * 0.99**number + noise)
        curves.add(replace(seen, event=event))
        if number >= 300:
            lines = plain(chart_panel.draw(RunView(run, curves, [], Selection()), 72, 22)).splitlines()
            edges.append((lines[0], lines[-2], *(line[:10] for line in lines[1:-2])))
    assert sum(one != other for one, other in itertools.pairwise(edges)) <= 4
