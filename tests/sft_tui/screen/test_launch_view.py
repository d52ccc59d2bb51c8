"""The screen before a run: presets, settings and findings."""

import dataclasses

import pytest

from engine.contract.texts import Lang, say
from sft_tui.screen import launch_view
from tests.sft_tui.screen.conftest import (
    SIZES,
    launch_screen,
    plain,
)


def test_errors_come_first_with_their_key() -> None:
    shown = plain(launch_view.draw(launch_screen(), 120, 39))
    assert shown.index("✗ pretrained model") < shown.index("! training file") < shown.index("✓ memory")
    assert "f sft-tui run pretrain" in shown


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_length_histogram_marks_the_cut(width: int, height: int, lang: Lang) -> None:
    shown = plain(launch_view.draw(launch_screen(lang), width, height - 1))
    whole, halved = "▂▃▆██▅▃▂▂▂▁▁▏▁▁▁▁▁▁▁▁▁▁▁▁ ", "▃██▃▂▁▏▁▁▁▁▁▁ "  # the longest are shown at any width
    assert (whole if width >= 120 else halved) in shown
    assert "939" in shown


def test_nothing_is_truncated_if_it_fits() -> None:
    shown = plain(launch_view.draw(launch_screen(), 120, 39)).split("Settings")[0]
    assert "44.80 GB are free" in shown
    assert "The run cannot begin without it." in shown
    assert "small GPUs, or none" in shown


def test_truncated_text_is_marked() -> None:
    shown = plain(launch_view.draw(launch_screen(), 80, 23))
    assert "Peak of 3.10 GB of 13.20 GB…" in shown


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("width", "named"), [(120, True), (80, False)])
def test_the_first_line_says_what_learns(lang: Lang, width: int, named: bool) -> None:
    first = plain(launch_view.draw(launch_screen(lang), width, 23)).splitlines()[0]
    assert launch_screen(lang).report.learning.text(lang) in first  # type: ignore[union-attr]  # it has one
    assert first.startswith(" sft-tui · ") is named


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_where_nothing_ran_the_demo_is_offered_until_something_can_learn(lang: Lang) -> None:
    ready = dataclasses.replace(launch_screen(lang, values={}), offer_demo=True)
    assert ready.report is not None
    unread = dataclasses.replace(ready, report=dataclasses.replace(ready.report, learning=None))
    first = [plain(launch_view.draw(view, 120, 23)).splitlines()[0] for view in (unread, ready)]
    assert [say("screen.demo_offer", lang) in line for line in first] == [True, False]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_demo_is_not_offered_for_a_chosen_model(lang: Lang) -> None:
    chosen = launch_screen(lang, report=None, values={"pretrained_model": "models/mine"}, offer_demo=True)
    first = plain(launch_view.draw(chosen, 120, 23)).splitlines()[0]
    assert say("screen.demo_offer", lang) not in first
    assert say("screen.launch", lang) in first


def test_the_demo_says_what_enter_will_do() -> None:
    view = dataclasses.replace(launch_screen(report=None, values={}), preset="demo")
    assert "enter gets SmolLM2-135M-Instruct" in plain(launch_view.draw(view, 80, 23))
    view = dataclasses.replace(view, preset="demo-t5")
    assert "enter writes data and tokenizer" in plain(launch_view.draw(view, 80, 23))


@pytest.mark.parametrize(("width", "height"), [*SIZES, (60, 20)])
@pytest.mark.parametrize("panel", launch_view.PANELS)
def test_a_click_finds_its_preset_or_setting(width: int, height: int, panel: str) -> None:
    view = launch_screen(panel=panel, setting=3)
    lines = plain(launch_view.draw(view, width, height - 1)).splitlines()
    for name, found in (
        ("▸ sft-small ", ("presets", 0)),
        ("✗ pretrained model", ("findings", 0)),
        (" tokenizer ", ("settings", 4)),
        (" max_seq_len  ", ("settings", 2)),
    ):
        y = next(y for y, line in enumerate(lines) if name in line)
        x = lines[y].index(name)
        assert launch_view.item_at(view, width, height - 1, x + 2, y) == found
    assert launch_view.item_at(view, width, height - 1, 3, 1) == ("presets", -1)


@pytest.mark.parametrize("height", range(10, 60, 7))
def test_presets_are_described_as_far_as_there_are_lines(height: int) -> None:
    view = launch_screen(resumable={})
    shown = [line[:34] for line in plain(launch_view.draw(view, 120, height)).splitlines()]
    panel = shown[2 : next(y for y, line in enumerate(shown) if line.startswith("└"))]
    empty = [line for line in panel if not line.strip("│ ")]
    described = sum(line.startswith("│     ") for line in panel)
    assert described >= len(view.presets) or not empty or len(panel) < len(view.presets)


@pytest.mark.parametrize("height", [12, 18, 24])
def test_what_is_not_shown_of_a_panel_is_counted(height: int) -> None:
    view = launch_screen(panel="settings", setting=6)
    marks = plain(launch_view.draw(view, 120, height)).splitlines()
    assert any("┌ Settings" in line and "↑" in line and "↓" in line for line in marks)
