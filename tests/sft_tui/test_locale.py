"""Both languages say the same things, and English has a word for one and one for many."""

import re
from collections import defaultdict
from string import Formatter

import pytest

from engine.contract.messages import Message
from engine.contract.texts import Lang, filled
from sft_tui.locale import TEXTS, language, say
from sft_tui.preflight.finding import SAID, Finding
from sft_tui.text import safe
from tests.catalogues import MESSAGES

ENGLISH = [
    *((code, text) for code, wording in MESSAGES.items() for text in (wording.en, wording.en_fix)),
    *((key, text) for key, (text, _) in TEXTS.items()),
    *((code, text) for code, said in SAID.items() for text, _ in said),
]
# Only said where there are several.
NEVER_ONE = {
    "world_mismatch", "launched_alone", "processes_over_gpus", "processes_over_cores", "attempts_spent", "trainable",
    "model", "ui_compare_few",
}  # fmt: skip


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


def test_one_is_not_a_plural() -> None:
    things = (
        "attempt|check|conversation|core|error|event|GPU|line|loss|process|prompt|record|row|step|text|token|turn|"
        "warning|answer|position|parameter"
    )
    plural = re.compile(rf"\b1 (?:(?!has)[a-z-]+ )?(?:{things})e?s\b|\(e?s\)")
    said = [filled(text, defaultdict(lambda: 1)) for code, text in ENGLISH if code not in NEVER_ONE]
    assert [text for text in said if plural.search(text)] == []


@pytest.mark.parametrize(("rows", "counted"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows")])
def test_counts_are_formatted_the_same_everywhere(rows: int, counted: str) -> None:
    assert f"{counted} written to" in say("import_written", "en", rows=rows, path="t.parquet")
    assert (
        f"on {counted.replace(',', '')} of"
        in Message.of("ended_tested", model="m", rows=rows, path="t", loss=1, bleu=1).what()
    )
    assert (
        f"{counted}, less"
        in Finding("warning", "rows_few", "train_file", {"path": "t", "rows": rows, "batch": 8}).what()
    )


def test_a_name_that_looks_like_a_count_is_unchanged() -> None:
    assert say("import_written", "en", rows=1, path=safe("2 file(s).parquet")) == "1 row written to 2 file(s).parquet"
