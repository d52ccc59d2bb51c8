"""Every finding speaks both languages, says the same in both, and has a reason and a remedy where it is grave."""

import ast
import re
import string
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from engine.data.text_checks import _RANGES
from sft_tui import preflight
from sft_tui.preflight.data import SCRIPTS_ZH
from sft_tui.preflight.finding import SAID, Finding, of_error
from sft_tui.preflight.fix import Command
from tests.catalogues import MESSAGES

CHINESE = re.compile("[一-鿿]")
NEVER_GRAVE = {
    "rows",
    "rows_untokenized",
    "lengths",
    "tokenizer",
    "model",
    "precision",
    "memory",
    "disk",
    "machine",
    "plan",
    "gpu_memory",
    "memory_rehearsed",
    "rehearsed",
}


def placeholders(text: str) -> set[str]:
    """The arguments that a text shows."""
    return {name.removesuffix("_zh") for _, name, _, _ in string.Formatter().parse(text) if name}


def codes_made() -> set[str]:
    """Every code that some check spells out."""
    found: set[str] = set()
    for path in Path(preflight.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
                found |= {str(code.value) for code in node.args[1:2] if isinstance(code, ast.Constant)}
    return found


@pytest.mark.parametrize("code", sorted(SAID))
def test_findings_exist_in_both_languages(code: str) -> None:
    for en, zh in SAID[code]:
        assert bool(en) == bool(zh)
        assert placeholders(en) == placeholders(zh)
        assert not CHINESE.search(en)


@pytest.mark.parametrize("code", sorted(SAID.keys() - NEVER_GRAVE))
def test_errors_and_warnings_have_a_reason_and_a_fix(code: str) -> None:
    assert SAID[code].why[0]
    assert SAID[code].what[0] or MESSAGES[code].en
    assert SAID[code].fix[0] or MESSAGES[code].en_fix


def test_every_script_has_a_chinese_name() -> None:
    assert {script for _, script in _RANGES if script} == SCRIPTS_ZH.keys()


def test_every_code_used_has_a_text() -> None:
    assert codes_made() >= {"rows", "rows_overlap", "memory_short", "space_short", "plan"}
    assert codes_made() <= SAID.keys()


def test_an_engine_error_is_shown_with_its_reason() -> None:
    error = InputError("column_missing", path="a.parquet", column="prompt", columns="q, a", setting="prompt_column")
    finding = of_error(error)
    assert (finding.level, finding.code, finding.subject) == ("error", "column_missing", "prompt_column")
    assert finding.what() == "a.parquet has no column prompt; it has: q, a."
    assert finding.why() == "Prompts and responses come from two columns of text."
    assert finding.fix() == "Name the right one with --prompt_column NAME."
    assert CHINESE.search(finding.what("zh"))


def test_a_fix_contains_its_command() -> None:
    look = Command(("data", "show", "a && b.parquet"))
    finding = Finding("warning", "text_control", "train_file", {"path": "x", "count": 2, "first": 7}, (look,))
    assert finding.fix() == "Look at it: `sft-tui data show 'a && b.parquet'`"
    assert finding.to_json()["command"] == "sft-tui data show 'a && b.parquet'"
