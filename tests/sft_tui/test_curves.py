import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.bounds import LARGEST
from engine.contract.events import Envelope, Record
from sft_tui.curves import MOST_BUCKETS, MOST_EVALUATIONS, MOST_READINGS, Curve, Curves
from tests.sft_tui.conftest import EVAL, step


def reported(event: events.Event) -> Record:
    return Record(Envelope("2026-01-01T00:00:00Z", 0.0, 1, "rank0", 0), event)


@settings(deadline=None)
@given(st.lists(st.floats(), max_size=60))
def test_every_value_is_in_a_column(values: list[float]) -> None:
    curve = Curve()
    for number, value in enumerate(values, 1):
        curve.add(number, value)
    found = curve.between(1, max(1, len(values)), 7)
    finite = [value for value in values if math.isfinite(value)]
    assert sum(bucket.known for bucket in found) == len(finite)
    assert sum(bucket.bad for bucket in found) == len(values) - len(finite)
    if finite:
        assert min(bucket.low for bucket in found if bucket.known) == min(finite)
        assert max(bucket.high for bucket in found if bucket.known) == max(finite)


def test_a_long_run_takes_bounded_memory_and_keeps_extremes() -> None:
    curve = Curve()
    for number in range(1, 20_001):
        curve.add(number, 99.0 if number == 7777 else 1.0)
    assert len(curve.buckets) <= MOST_BUCKETS
    (one,) = curve.between(1, 20_000, 1)
    assert (one.low, one.high, one.known) == (1.0, 99.0, 20_000)
    assert max(curve.between(7000, 8000, 10)[7:9], key=lambda bucket: bucket.high).high == 99.0


def test_a_repeated_step_replaces_the_first() -> None:
    curve = Curve()
    for number in (1, 2, 3, 4, 5):
        curve.add(number, float(number))
    for number in (3, 4):
        curve.add(number, 30.0)
    assert [bucket.mean for bucket in curve.between(1, 4, 4)] == [1.0, 2.0, 30.0, 30.0]
    assert curve.last == 4


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-LARGEST, LARGEST), st.sampled_from([math.nan, math.inf, -math.inf])), max_size=40))
def test_curves_come_back_from_a_snapshot(values: list[float]) -> None:
    curves = Curves()
    for number, value in enumerate(values, 1):
        curves.add(reported(step(number, loss=value)))
    curves.add(reported(events.Eval(1, 3, 5, math.nan, 1.0, 5, "", 1.0)))
    back = Curves.from_json(curves.to_json())
    assert back.of == curves.of
    assert repr(back.evaluations) == repr(curves.evaluations)


@pytest.mark.parametrize(
    "value", [{}, {"of": {}}, {"of": 3, "evaluations": [], "memory": []}, {"of": {"loss": {"width": 0}}}]
)
def test_an_invalid_snapshot_is_refused(value: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Curves.from_json(value)  # type: ignore[arg-type]


def test_evaluations_and_readings_are_bounded_and_repeated_ones_replaced() -> None:
    curves = Curves()
    for number in range(MOST_EVALUATIONS + 9):
        curves.add(reported(events.Eval(1, number, 1, 1.0, 2.0, 1, "", 1.0)))
        curves.add(reported(events.Host(10, 5, [number], 1.0, 1)))
    assert len(curves.evaluations) == MOST_EVALUATIONS
    assert [reading[0] for reading in curves.memory][-1] == MOST_EVALUATIONS + 8
    assert len(curves.memory) == MOST_READINGS
    curves.add(reported(EVAL))
    assert curves.evaluations[-1][0] == EVAL.step
