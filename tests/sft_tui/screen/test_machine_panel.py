"""The panel of the machine: memory, load and each GPU."""

import pytest

from engine.contract import events
from sft_tui.screen import machine_page, machine_panel, run_view
from sft_tui.screen.run_contents import RunView
from tests.sft_tui.conftest import PLAN, STARTED
from tests.sft_tui.screen.conftest import (
    SIZES,
    plain,
    run_of,
    run_screen,
)


def test_low_memory_is_marked() -> None:
    tight = events.Host(16_000_000_000, 600_000_000, [9_000_000_000], 99.0, 1)
    run, curves = run_of(iter([STARTED, PLAN, tight]))
    assert "! 600.00 MB" in plain(run_view.draw(RunView(run, curves, []), 120, 39))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_load_memory_temperature_and_power_of_each_gpu_are_shown(width: int, height: int) -> None:
    shown = plain(run_view.draw(run_screen(), width, height - 1))
    assert shown.count("71 °C  148") == 2
    assert shown.count("93 %") == 2
    assert shown.count("6.5/12.9 GB") == 2


def test_missing_gpu_readings_are_dashes() -> None:
    absent = dict.fromkeys(("utilization", "memory_used", "temperature", "power"), "N/A: not supported")
    reported = [STARTED, PLAN, events.Host(16, 8, [], 5.0, 1), events.Gpu(0, "N/A: no name", absent)]
    run, curves = run_of(iter(reported))
    assert "-/- GB" in plain(run_view.draw(RunView(run, curves, []), 120, 39))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_gpu_that_is_lost_keeps_its_name_and_says_so(width: int, height: int) -> None:
    lost = dict.fromkeys(("utilization", "memory_used", "temperature", "power"), "N/A: GPU is lost")
    well = events.Gpu(0, "card zero", {"utilization": "93"})
    reported = [
        STARTED, PLAN, events.Host(16, 8, [], 5.0, 1), well, events.Gpu(1, "card one", {"utilization": "92"}),
        well, events.Gpu(1, "N/A: GPU is lost", lost),
    ]  # fmt: skip
    run, curves = run_of(iter(reported))
    assert run.state.gpus[1].name == "card one"
    shown = plain(run_view.draw(RunView(run, curves, []), width, height - 1))
    assert "lost" in shown
    assert "93 %" in shown


def test_each_of_many_gpus_has_a_line() -> None:
    eight = [events.Gpu(index, f"card {index}", {"utilization": "50"}) for index in range(8)]
    run, curves = run_of(iter([STARTED, PLAN, events.Host(16, 8, [1] * 8, 5.0, 1), *eight]))
    shown = plain(run_view.draw(RunView(run, curves, []), 120, 39))
    assert all(f"GPU {index}     50 %" in shown for index in range(8))


def test_memory_shows_the_trend_and_each_ranks_share() -> None:
    reported = [events.Host(16_000_000_000, 16_000_000_000 - n * 10**9, [4_000_000_000], 5.0, 1) for n in range(1, 9)]
    run, curves = run_of(iter([STARTED, PLAN, *reported]))
    shown = plain(run_view.draw(RunView(run, curves, []), 120, 39))
    assert "8.0/16.0 GB ▁▁▂▂▃▃▄▄" in shown
    assert "4.00 GB  25 % ████████" in shown


@pytest.mark.parametrize("width", [100, 120])
def test_each_machine_has_its_part(width: int) -> None:
    reported = [
        STARTED, PLAN,
        events.Host(16_000_000_000, 8_000_000_000, [1], 5.0, 1, ranks=[0], node="first"),
        events.Host(32_000_000_000, 8_000_000_000, [1], 5.0, 1, ranks=[1], machine=1, node="second"),
        events.Gpu(0, "card", {"utilization": "51"}, node="first"),
        events.Gpu(0, "card", {"utilization": "52"}, machine=1, node="second"),
    ]  # fmt: skip
    run, curves = run_of(iter(reported))
    shown = plain(machine_panel.draw(RunView(run, curves, []), width, 20))
    assert "first" in shown.splitlines()[0]
    for part in ("8.0/16.0 GB", "51 %", "second", "24.0/32.0 GB", "52 %"):
        assert part in shown, part
    assert shown.index("51 %") < shown.index("second") < shown.index("52 %")
    page = plain(machine_page.lines(RunView(run, curves, []), 100))
    for part in ("first", "second", "rank 1", "second · GPU 0 card"):
        assert part in page, part
