"""What the network costs a step, against figures computed by hand."""

import re
from pathlib import Path

import pytest

from engine.contract.traffic import BUCKET_ELEMENTS, HOP, StepCost, divided_bytes, gradient_bytes, seconds, sum_seconds

PAGE = Path(__file__).parents[3] / "docs" / "machines.md"


def test_two_machines_send_the_gradient_once_and_many_send_it_twice() -> None:
    assert gradient_bytes(82_000_000, 2) == 328_000_000
    assert gradient_bytes(1_000_000, 1) == 0
    assert gradient_bytes(1_000_000, 1000) == pytest.approx(8e6, rel=0.002)


def test_a_gigabit_carries_125_megabytes_a_second() -> None:
    assert seconds(328_000_000, 1) == pytest.approx(2.624)
    assert seconds(328_000_000, 10) == pytest.approx(0.2624)


def test_every_bucket_goes_around_the_ring() -> None:
    bytes_alone = seconds(gradient_bytes(2 * BUCKET_ELEMENTS, 1000), 10)
    assert sum_seconds(2 * BUCKET_ELEMENTS, 1000, 10) == pytest.approx(bytes_alone + 2 * 2 * 999 * HOP)


def test_one_machine_alone_pays_nothing() -> None:
    alone = StepCost(1.0, 82_000_000, 1, 1)
    assert (alone.network, alone.speedup) == (0, 1)


def test_the_table_of_the_page_is_what_the_model_says() -> None:
    rows = re.findall(r"^\| (\d[\d,]*) \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(nodes.replace(",", "")) for nodes, _ in rows] == [2, 4, 8, 16, 100, 1000]
    for nodes, cells in rows:
        costs = [StepCost(1.0, trained, int(nodes.replace(",", "")), rate) for trained, rate in COLUMNS]
        shown = [f"{cost.total:.2f} s, × {cost.speedup:,.1f}" for cost in costs]
        assert [cell.strip() for cell in cells.split("|")] == shown


COLUMNS = ((134_500_000, 1), (134_500_000, 10), (134_500_000, 100), (4_900_000, 1), (4_900_000, 10))


def test_a_divided_model_sends_weights_and_gradients_in_a_micro_batch() -> None:
    assert divided_bytes(4_000_000, 1_000_000, 2) == 4_000_000
    assert divided_bytes(8_000_000, 10_000, 4) == 6_030_000
    assert divided_bytes(8_000_000, 10_000, 1) == 0
