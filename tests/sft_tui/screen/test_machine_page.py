"""The page with all readings of the machine."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from engine.contract import events
from engine.contract.messages import Message
from engine.contract.processes import AttemptProcesses, ProcessId
from engine.contract.texts import Lang
from sft_tui.run_facts import RunFacts
from sft_tui.screen import machine_page, run_view
from sft_tui.screen.run_contents import RunView
from tests.sft_tui.conftest import PLAN, STARTED, step
from tests.sft_tui.screen.conftest import HEIGHTS, SIZES, WIDTHS, exact, plain, run_of, run_screen, same_as_kept

PROCESSES = AttemptProcesses(3, ProcessId(4711), [ProcessId(4712), ProcessId(4713)])


def view(lang: Lang = "en", **selected: Any) -> RunView:
    return replace(run_screen(lang, page="machine", **selected), facts=RunFacts(processes=PROCESSES))


def test_all_readings_are_there() -> None:
    shown = plain(machine_page.lines(view(), 110))
    for part in (
        "9.10 GB of 16.00 GB in use", "2.90 GB, 18 % of the machine, at most 2.90 GB", "96 %", "GPU 1", "71 °C",
        "148.2 W", "170 W", "12.88 GB", "44.79 GB", "step 60, 240.00 MB", "pid 4711", "pid 4713", "3 · alive",
        "trainer.log", "/best",
    ):  # fmt: skip
        assert part in shown, part


def test_a_gpu_shows_what_it_was_over_the_run() -> None:
    reported: list[events.Event] = [STARTED, PLAN]
    for number in range(1, 20):
        reported += [step(number), events.Gpu(0, "card", {"utilization": str(5 * number)})]
    run, curves = run_of(iter(reported))
    shown = plain(machine_page.lines(RunView(run, curves, []), 110))
    assert "▁" in shown
    assert "█" in shown


def test_what_a_driver_cannot_report_is_shown_with_the_reason() -> None:
    run, curves = run_of(iter([STARTED, events.Gpu(0, "card", {"power": "N/A: not supported", "new\x1b": "7"})]))
    shown = plain(machine_page.lines(RunView(run, curves, []), 80))
    assert "N/A: not supported" in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_a_lost_gpu_has_one_line_with_what_to_do() -> None:
    lost = events.Gpu(1, "N/A: GPU is lost", {"power": "N/A: GPU is lost", "utilization": "N/A: GPU is lost"})
    run, curves = run_of(iter([STARTED, events.Gpu(1, "card", {"power": "148"}), lost]))
    shown = plain(machine_page.lines(RunView(run, curves, []), 80))
    assert "GPU 1 card" in shown
    assert shown.count("Lost: the driver cannot reach it any more.") == 1
    assert "N/A" not in shown


def test_a_gpu_that_torch_cannot_use_is_on_the_page() -> None:
    notice = events.Notice(Message.of("gpu_unseen", makers="AMD"))
    run, curves = run_of(iter([STARTED, notice]))
    assert "A GPU of AMD is in this machine" in plain(machine_page.lines(RunView(run, curves, []), 80))


def test_a_run_without_readings_says_so() -> None:
    run, curves = run_of(iter([STARTED]))
    assert "No readings yet." in plain(machine_page.lines(RunView(run, curves, []), 80))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_matches_its_snapshot(lang: Lang, size: tuple[int, int]) -> None:
    same_as_kept(f"run-machine-{lang}-{size[0]}x{size[1]}", run_view.draw(view(lang), size[0], size[1] - 1))


@settings(max_examples=20, deadline=None)
@given(width=WIDTHS, height=HEIGHTS)
def test_the_page_can_have_any_size(width: int, height: int) -> None:
    exact(run_view.draw(view("zh", scrolled=height), width, height), width, height)
