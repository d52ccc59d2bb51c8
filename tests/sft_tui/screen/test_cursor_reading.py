"""What the cursor of a chart reads: what the run's events say of these steps."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.events import Envelope, Record
from sft_tui.curves import Curves
from sft_tui.screen import cursor_reading
from sft_tui.screen.charted import Charted
from sft_tui.screen.run_contents import Selection
from tests.sft_tui.conftest import EVAL, STEP, step


def curves_of(*reported: events.Event) -> Curves:
    curves = Curves()
    for event in reported:
        curves.add(Record(Envelope("2026-01-01T00:00:00Z", 0.0, 1, "rank0", 0), event))
    return curves


def read(curves: Curves, across: int = 100, width: int = 200, **selected: Any) -> str:
    shown = Charted({"a": curves})
    return "".join(text for text, _ in cursor_reading.line(shown, Selection(**selected), "en", across, width)).rstrip()


def test_a_step_is_read_with_its_newest_evaluation() -> None:
    steps = [step(n, loss=n / 10, lr=n * 1e-4, grad_norm=n / 100) for n in range(1, 60)]
    curves = curves_of(*steps[:30], EVAL.__class__(1, 30, 5, 2.4, 1.0, 5, "s", 1.0), *steps[30:])
    assert read(curves, cursor=41) == "step 41  train 4.1000  eval 2.4000  lr 0.0041  grad 0.41  2,000 tok/s"
    assert "eval -" in read(curves, cursor=29)


def test_a_column_of_several_steps_is_read_as_mean_and_range() -> None:
    curves = curves_of(*(step(n, loss=float(n)) for n in range(1, 401)))
    assert read(curves, cursor=9).startswith("step 9–12  train 10.50 (9.0000–12.00)  ")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5000), st.integers(10, 200), st.floats(0, 1), st.floats(0, 1))
def test_readings_equal_the_events_of_the_steps(count: int, across: int, share: float, zoom: float) -> None:
    values = [2 + math.sin(n * n) for n in range(1, count + 1)]
    curves = Curves()
    for number, value in enumerate(values, 1):
        curves.of["loss"].add(number, value)
    shown = Charted({"a": curves})
    selection = shown.at(Selection(window=max(16, round(count * zoom))), round(share * count))
    first, last = cursor_reading.steps(shown, selection, across)
    assert 1 <= first <= last <= count
    here = values[first - 1 : last]
    bucket = curves.of["loss"].at(*shown.under(selection, across))[0]
    assert bucket.known == len(here)
    assert (bucket.low, bucket.high) == (min(here), max(here))
    assert bucket.mean == pytest.approx(sum(here) / len(here))


def test_readings_of_memory_and_of_gpus_come_first() -> None:
    curves = curves_of(
        STEP,
        events.Host(16_000_000_000, 6_000_000_000, [2_900_000_000, 2_800_000_000], 5.0, 1),
        events.Gpu(0, "card", {"utilization": "93", "power": "148.2"}),
    )
    assert read(curves, cursor=1, metric="memory").startswith("step 1  m 10.00 GB  0 2.90 GB  1 2.80 GB  train 10.25")
    assert read(curves, cursor=1, metric="gpu_load").startswith("step 1  0 93 %  train")
    assert read(curves, cursor=1, metric="padding").startswith("step 1  Share of padding 10 %  train")


def test_scores_are_read_by_their_names() -> None:
    curves = curves_of(*(step(n) for n in range(1, 60)), EVAL)
    assert read(curves, cursor=55, metric="bleu").startswith("step 55  BLEU 12.25  train 10.25  eval 9.5000")


def test_of_several_runs_the_metric_of_each_is_read() -> None:
    one = curves_of(*(step(n, loss=2.0) for n in range(1, 60)))
    other = curves_of(*(step(n, loss=3.0) for n in range(1, 30)))
    shown = Charted({"a": one, "b": other})
    line = cursor_reading.line(shown, Selection(cursor=20), "en", 100, 60)
    assert "".join(text for text, _ in line).rstrip() == "step 20  1 2.0000  2 3.0000"
    assert ("2 ", "chart2") in line


def test_values_that_are_not_finite_are_said() -> None:
    assert "train nan" in read(curves_of(step(1, loss=math.nan)), cursor=1)
    assert "eval nan" in read(curves_of(step(50), EVAL.__class__(1, 50, 5, math.nan, 1.0, 5, "s", 1.0)), cursor=50)


def test_a_narrow_line_keeps_the_first_readings() -> None:
    assert read(curves_of(STEP), cursor=1, width=24) == "step 1  train 10.25"
