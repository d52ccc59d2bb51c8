"""Which steps a chart shows."""

import pytest

from sft_tui.curves import Curves
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
