import base64
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.bounds import LARGEST
from engine.contract.events import Envelope, Record
from sft_tui.curves import (
    MACHINE,
    MOST_BUCKETS,
    MOST_CHARTED,
    MOST_EVALUATIONS,
    MOST_READ_BUCKETS,
    MOST_READINGS,
    Bucket,
    Curve,
    Curves,
    averaged,
)
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


@pytest.mark.parametrize(
    "bucket",
    [
        (2.0, 1.0, 3.0, 2, 0),
        (math.nan, 1.0, 1.0, 1, 0),
        (1.0, 1.0, math.inf, 1, 0),
        (1.0, 1.0, 1.0, -1, 0),
        (1.0, 1.0, 1.0, 1, -1),
        (0.0, 0.0, 0.0, 0, 1),
        (-1e300, 1.0, 1.0, 1, 0),
    ],
)
def test_values_that_no_curve_has_are_refused(bucket: tuple[float, ...]) -> None:
    packed = base64.b64encode(struct.pack("<dddqq", *bucket)).decode()
    with pytest.raises(ValueError, match="not buckets"):
        Curve.from_json({"width": 1, "last": 1, "buckets": packed})


@pytest.mark.parametrize("packed", ["AAAA", "§", "A", "A" * 1_000_000, 3, None])
def test_curves_that_are_not_packed_are_refused(packed: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Curve.from_json({"width": 1, "last": 1, "buckets": packed})


def test_evaluations_and_readings_are_bounded_and_repeated_ones_replaced() -> None:
    curves = Curves()
    for number in range(MOST_EVALUATIONS + 9):
        curves.add(reported(events.Eval(1, number, 1, 1.0, 2.0, 1, "", 1.0)))
        curves.add(reported(events.Host(10, 5, [number], 1.0, 1)))
    assert len(curves.evaluations) == MOST_EVALUATIONS
    assert [reading[0] for reading in curves.memory][-1] == MOST_EVALUATIONS + 8
    assert len(curves.memory) == MOST_READINGS
    curves.add(reported(EVAL))
    assert curves.evaluations[-1].step == EVAL.step


def test_other_machines_are_not_in_the_curves_of_rank_0s() -> None:
    curves = Curves()
    curves.add(reported(step(1)))
    curves.add(reported(events.Host(100, 40, [1], 1.0, 1, ranks=[1], machine=1, node="b")))
    curves.add(reported(events.Gpu(0, "card", {"power": "60"}, machine=1, node="b")))
    assert (curves.readings, curves.memory) == ({}, [])
    curves.add(reported(events.Host(100, 40, [1, 2], 1.0, 1, ranks=[0, 2], node="a")))
    assert set(curves.readings["memory"]) == {MACHINE, "0", "2"}


def test_memory_and_gpus_have_curves_over_the_steps() -> None:
    curves = Curves()
    gpu = {"utilization": "93", "memory_used": "6000", "power": "N/A: no sensor", "temperature": "71"}
    for number in range(1, 11):
        curves.add(reported(step(number)))
        curves.add(reported(events.Host(100, 40 - number, [number, 2 * number], 1.0, 1)))
        curves.add(reported(events.Gpu(1, "card", {**gpu, "utilization": str(90 + number)})))
    assert set(curves.readings) == {"memory", "gpu_load", "gpu_memory", "gpu_temperature"}
    assert set(curves.readings["memory"]) == {MACHINE, "0", "1"}
    assert curves.readings["memory"]["1"].at(7, 7)[0].mean == 14
    assert curves.readings["memory"][MACHINE].at(1, 10)[0].high == 70
    assert [bucket.mean for bucket in curves.readings["gpu_load"]["1"].between(1, 10, 10)] == list(range(91, 101))
    assert "gpu_power" not in curves.charts
    assert curves.charts[-1] == "padding"
    back = Curves.from_json(curves.to_json())
    assert back.readings == curves.readings


def test_readings_are_bounded_however_many_there_are() -> None:
    curves = Curves()
    for number in range(1, 3000):
        curves.of["loss"].add(number, 1.0)
        curves.add(reported(events.Host(100, 40, [number] * 40, 1.0, 1)))
        curves.add(reported(events.Gpu(number % 40, "card", {"utilization": "1"})))
    assert len(curves.readings["memory"]) == 1 + MOST_CHARTED
    assert len(curves.readings["gpu_load"]) == MOST_CHARTED
    assert all(len(one.buckets) <= MOST_READ_BUCKETS for of in curves.readings.values() for one in of.values())
    value = curves.to_json()
    value["readings"]["memory"]["0"] = curves.of["loss"].to_json()
    with pytest.raises(ValueError, match="too long"):
        Curves.from_json(value)


def test_a_repeated_step_discards_later_readings() -> None:
    curves = Curves()
    for number in (1, 2, 3, 4, 5, 3):
        curves.add(reported(step(number)))
        curves.add(reported(events.Host(100, 100 - number, [], 1.0, 1)))
    (machine,) = curves.readings["memory"].values()
    assert machine.last == 3
    assert machine.at(1, 5)[0].high == 3


def test_readings_before_the_first_step_are_at_the_first() -> None:
    curves = Curves()
    for free in (90, 50):
        curves.add(reported(events.Host(100, free, [], 1.0, 1)))
    (machine,) = curves.readings["memory"].values()
    assert machine.at(1, 1)[0][:2] == (10, 50)


def test_a_run_has_charts_of_what_its_evaluations_measured() -> None:
    curves = Curves()
    assert curves.charts == ["loss", "lr", "grad_norm", "rate", "padding"]
    curves.add(reported(EVAL))
    assert curves.charts == ["loss", "bleu", "chrf", "rouge-l", "exact-match", "perplexity", "lr", "grad_norm", "rate",
                             "padding"]  # fmt: skip
    assert curves.evaluations[0].values["chrf"] == 33.5


def test_the_mean_is_exponential_over_the_steps() -> None:
    curve, mean = Curve(), math.nan
    for number in range(1, 41):
        value = float(number % 7)
        curve.add(number, value)
        mean = value if math.isnan(mean) else mean + (value - mean) / 8
    assert curve.mean_before(41, 8) == pytest.approx(mean, rel=0.02)
    assert math.isnan(curve.mean_before(1, 8))
    assert averaged(4.0, Bucket(8.0, 8.0, 16.0, 2, 0), 2) == 7.0
    assert averaged(4.0, Bucket(8.0, 8.0, 16.0, 2, 0), 0) == 8.0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 4000), st.integers(1, 3000), st.integers(1, 400))
def test_each_bucket_is_in_the_column_of_its_first_step(count: int, first: int, length: int, columns: int) -> None:
    curve = Curve()
    for number in range(1, count + 1):
        curve.add(number, float(number))
    found = curve.between(first, first + length - 1, columns)
    expected = [Bucket(math.inf, -math.inf, 0.0, 0, 0)] * columns
    for place, bucket in enumerate(curve.buckets):
        begins = max(first, place * curve.width + 1)
        if begins <= min(first + length - 1, (place + 1) * curve.width):
            column = (begins - first) * columns // length
            expected[column] = expected[column].plus(bucket)
    assert found == expected


@pytest.mark.parametrize("readings", [{"fans": {}}, {"memory": {"\x1b": {}}}, {"gpu_load": {"123": {}}}])
def test_readings_of_something_else_are_refused(readings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not readings"):
        Curves.from_json({**Curves().to_json(), "readings": readings})
