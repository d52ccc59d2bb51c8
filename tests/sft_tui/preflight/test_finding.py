"""Every finding speaks both languages, says the same in both, and has a reason and a remedy where it is grave."""

import re

import pytest

from engine.contract.messages import InputError
from engine.contract.texts import LANGS
from engine.data.text_checks import _RANGES
from sft_tui.preflight.data import script_name
from sft_tui.preflight.declaration import CHECKS, of_message
from sft_tui.preflight.finding import Finding, words
from sft_tui.preflight.fix import Command
from tests.catalogues import MESSAGES

CHINESE = re.compile("[一-鿿]")
GRAVE = sorted(code for code, check in CHECKS.items() if {"warning", "error"} & set(check.levels))


@pytest.mark.parametrize("code", GRAVE)
def test_errors_and_warnings_have_a_reason_and_a_fix(code: str) -> None:
    assert words(code, "why", "en")
    assert words(code, "what", "en") or MESSAGES[code].en
    assert words(code, "fix", "en") or CHECKS[code].remedy or MESSAGES[code].en_fix


def test_every_script_has_a_name_of_its_own_in_both_languages() -> None:
    scripts = {script for _, script in _RANGES if script}
    assert all(CHINESE.search(script_name(script).text("zh")) for script in scripts)
    assert not any("script." in script_name(script).text("en") for script in scripts)
    for lang in LANGS:
        assert len({script_name(script).text(lang) for script in scripts}) == len(scripts)


def test_an_engine_error_is_shown_with_its_reason() -> None:
    error = InputError("column_missing", path="a.parquet", column="prompt", columns="q, a", setting="prompt_column")
    finding = of_message(error.message)
    assert (finding.level, finding.code, finding.subject) == ("error", "column_missing", "prompt_column")
    assert finding.what() == "a.parquet has no column prompt; it has: q, a."
    assert finding.why() == "Rows come from two columns of text, prompts and responses, or from a column of messages."
    assert finding.fix() == "Name the right one with --prompt_column NAME."
    assert CHINESE.search(finding.what("zh"))


def test_a_fix_contains_its_command() -> None:
    look = Command(("data", "show", "a && b.parquet"))
    finding = Finding("warning", "text_control", "train_file", {"path": "x", "count": 2, "first": 7}, (look,))
    assert finding.fix() == "Look at it: `sft-tui data show 'a && b.parquet'`"
    assert finding.to_json()["command"] == "sft-tui data show 'a && b.parquet'"
