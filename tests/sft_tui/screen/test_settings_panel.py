"""The page with what a run was made of."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from engine.contract.config import FIELDS
from engine.contract.texts import Lang
from sft_tui.judging import Tally
from sft_tui.notes import Note
from sft_tui.run_facts import RunFacts
from sft_tui.screen import run_view, settings_panel
from sft_tui.screen.ink import Line
from sft_tui.screen.run_contents import RunView
from tests.sft_tui.conftest import STARTED
from tests.sft_tui.screen.conftest import HEIGHTS, KILLED, SIZES, WIDTHS, exact, plain, run_screen, same_as_kept

TALLY = Tally(("base", "tuned"), 2, 7, 1, 12)
FACTS = RunFacts(Note("learns faster", ["baseline"]), model_type="t5", began_from="pretrain-1", judged=TALLY)


def view(lang: Lang = "en", *, preset: str = "sft-small", **selected: Any) -> RunView:
    shown = run_screen(lang, KILLED, page="settings", **selected)
    started = replace(STARTED, versions={"torch": "2.9.0", "transformers": "5.0.0"}, data={"train_file": "ab" * 32})
    config = {**shown.run.record.config, "learn_rate": 3e-5, "chat_template": "chatml"}
    record = replace(shown.run.record, config=config, based_on="sft-small-1", preset=preset)
    run = replace(shown.run, record=record, state=replace(shown.state, started=started, attempt=2))
    return replace(shown, run=run, facts=FACTS)


def shown(lines: list[Line]) -> str:
    return plain(lines)


def test_what_differs_from_the_preset_comes_first() -> None:
    lines = shown(settings_panel.lines(view(), 100)).splitlines()
    assert lines[0] == "Differs from sft-small"
    assert "! learn_rate" in "\n".join(lines[1:5])
    assert "5e-05 → 3e-05" in "\n".join(lines[1:5])


def test_everything_that_is_known_of_a_run_is_there() -> None:
    words = shown(settings_panel.lines(view(), 100))
    for part in (
        "learns faster", "#baseline", "10 of 12", "sft-small-1", "pretrain-1", "1,000 rows", "sha256 abababababab",
        "64 rows", "auto · t5", "188,000,000 parameters", "50 %",
        "fp32", "2 processes", "torch", "2.9.0", "sft-small-3",
    ):  # fmt: skip
        assert part in words, part
    assert all(f"  {name}" in words or f"! {name}" in words for name in FIELDS)


def test_a_run_of_a_preset_that_is_gone_is_shown() -> None:
    words = shown(settings_panel.lines(view(preset="gone"), 100))
    assert "The preset gone no longer exists." in words
    assert "3e-05" in words


def test_a_setting_of_a_newer_version_is_left_out() -> None:
    newer = view()
    record = replace(newer.run.record, config={**newer.run.record.config, "new_setting": "x"})
    assert "new_setting" not in shown(settings_panel.lines(replace(newer, run=replace(newer.run, record=record)), 100))


def test_foreign_text_is_harmless() -> None:
    hostile = "\x1b]0;x\x07\u202e"
    changed = view()
    facts = RunFacts(
        Note(hostile, []), model_type=hostile, began_from=hostile, judged=replace(TALLY, names=(hostile, hostile))
    )
    record = replace(
        changed.run.record,
        based_on=hostile,
        preset=hostile,
        config={**changed.run.record.config, "train_file": hostile},
    )
    words = shown(settings_panel.lines(replace(changed, facts=facts, run=replace(changed.run, record=record)), 100))
    assert all(line.isprintable() for line in words.splitlines())


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_matches_its_snapshot(lang: Lang, size: tuple[int, int]) -> None:
    lines = run_view.draw(view(lang), size[0], size[1] - 1)
    same_as_kept(f"run-settings-{lang}-{size[0]}x{size[1]}", lines)


@settings(max_examples=20, deadline=None)
@given(width=WIDTHS, height=HEIGHTS)
def test_the_page_can_have_any_size(width: int, height: int) -> None:
    exact(run_view.draw(view("zh", scrolled=height), width, height), width, height)
