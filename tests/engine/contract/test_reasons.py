"""Why rows cannot be used, in words."""

import pytest

from engine.contract.reasons import counted, reason_phrase
from engine.contract.texts import Lang


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_reason_shows_the_name_from_the_file(lang: Lang) -> None:
    shown = reason_phrase("unknown_role:tool").text(lang)
    assert "tool" in shown
    assert shown != "unknown_role:tool"


def test_a_reason_of_another_version_is_shown_as_it_is() -> None:
    assert reason_phrase("of_a_later_version:x").text("zh") == "of_a_later_version:x"


def test_the_most_frequent_reason_comes_first() -> None:
    shown = [phrase.text("en") for phrase in counted({"a_rare_one": 1, "a_usual_one": 12, "another": 1})]
    assert shown[0].startswith("a_usual_one")
    assert "12" in shown[0]
    assert len(shown) == 3
