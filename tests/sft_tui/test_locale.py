"""Both languages say the same things."""

from string import Formatter

import pytest

from engine.contract.messages import Lang
from sft_tui.locale import TEXTS, language


@pytest.mark.parametrize("key", TEXTS)
def test_both_languages_use_the_same_arguments(key: str) -> None:
    english, chinese = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in TEXTS[key])
    assert english == chinese
    assert all(TEXTS[key])


@pytest.mark.parametrize(
    ("env", "lang"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_MESSAGES": "zh_TW", "LANG": "en_US"}, "zh"),
        ({"LANG": "de_DE"}, "en"),
        ({}, "en"),
    ],
)
def test_the_locale_chooses_the_language(env: dict[str, str], lang: Lang) -> None:
    assert language(env) == lang
