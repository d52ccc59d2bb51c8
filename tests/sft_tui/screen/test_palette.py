"""Actions are found by their names and help."""

import pytest

from engine.contract.texts import Lang
from sft_tui.screen import actions, palette
from sft_tui.screen.ink import columns


@pytest.mark.parametrize(("words", "lang", "first"), [
    ("", "en", "stop"), ("log s", "en", "log_scale"), ("sav", "en", "stop"), ("without", "en", "now"),
    ("对数", "zh", "log_scale"), ("pause", "zh", "pause"), ("暂停", "zh", "pause"),
])  # fmt: skip
def test_the_palette_finds_actions_by_name_and_help(words: str, lang: Lang, first: str) -> None:
    assert palette.found(actions.RUN, lang, words)[0].name == first


def test_the_palette_finds_nothing_for_an_unknown_name() -> None:
    assert palette.found(actions.RUN, "en", "xyzzy") == []


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("width", "height"), [(60, 19), (80, 23), (120, 39)])
def test_the_palette_shows_the_action_under_the_cursor_with_its_keys(lang: Lang, width: int, height: int) -> None:
    listed = palette.found(actions.RUN, lang, "")
    lines = palette.draw(listed, lang, len(listed) - 1, width, height)
    assert {columns(line) for line in lines} == {width}
    assert len(lines) == height
    (chosen,) = [line for line in lines if any("▸" in text for text, _ in line)]
    assert f" {' '.join(map(actions.shown, listed[-1].keys))} " in "".join(text for text, _ in chosen)
