"""Every language has the same texts, with the same arguments, and a program knows an outdated catalogue."""

import ast
import importlib
import re
import shutil
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

from engine.contract import texts
from engine.contract.config import FIELDS
from engine.contract.messages import Message
from engine.contract.presets import built_in
from engine.contract.texts import (
    LANGS,
    Lang,
    compile_catalogues,
    fault,
    filled,
    language,
    named,
    say,
    sources,
    template,
)
from engine.data.text_checks import _RANGES
from sft_tui.preflight.declaration import CHECKS
from sft_tui.preflight.finding import Finding
from sft_tui.screen.actions import ACTIONS, SCOPES
from sft_tui.text import safe
from tests.catalogues import TEXTS, modules, placeholders

# Only reported if there are several.
NEVER_ONE = {
    "message.world_mismatch.what", "message.launched_alone.what", "message.launched_alone.fix",
    "message.attempts_spent.what", "message.trainable.what", "message.trainable_unfrozen.what", "screen.compare_few",
    "check.processes_over_gpus.what", "check.processes_over_cores.what", "check.model.what",
}  # fmt: skip


# --- the catalogues


@pytest.mark.parametrize("lang", LANGS)
def test_every_language_has_the_same_texts(lang: Lang) -> None:
    assert TEXTS[lang].keys() == TEXTS["en"].keys()


@pytest.mark.parametrize("source", sorted(sources()), ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_no_key_stands_twice_in_a_catalogue(source: Path) -> None:
    keys = Counter(line for line in source.read_text(encoding="utf-8").splitlines() if line.startswith("msgid"))
    assert [key for key, count in keys.items() if count > 1] == []


@pytest.mark.parametrize("lang", LANGS)
def test_every_text_shows_the_arguments_that_the_english_one_shows(lang: Lang) -> None:
    def shown(text: str) -> list[str]:
        return [name.removesuffix("_zh") for name in placeholders(text)]

    assert [key for key, text in TEXTS[lang].items() if sorted(shown(text)) != shown(TEXTS["en"][key])] == []


# --- their use


@cache
def spelt() -> tuple[set[str], list[re.Pattern[str]]]:
    """All texts in the source, and patterns of those that it puts together from a key's beginning and a value."""
    whole, patterns = set[str](), list[re.Pattern[str]]()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                whole.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [re.escape(str(one.value)) if isinstance(one, ast.Constant) else ".+" for one in node.values]
                patterns.append(re.compile("".join(parts)))
    return whole, patterns


importlib.import_module("sft_tui.preflight.check")  # which declares all checks
# Keys that end in a name: how many of its parts belong to the name, and all such names; None: any text of the source.
NAMED: dict[str, set[str] | None] = {
    "message": None, "reason": None, "status": None, "phase": None, "unit": None,
    "setting": set(FIELDS),
    "preset": set(built_in()),
    "action": {f"{action.scope}.{action.name}" for action in ACTIONS},
    "scope": set(SCOPES),
    "check": set(CHECKS),
    "script": {script for _, script in _RANGES}, "written": {script for _, script in _RANGES},
    "model": None, "model_kind": None, "format": None, "item": None, "subject": None, "verified": None,
    "precision": None,
}  # fmt: skip
# `help` and `place` are tested with the commands; click has the names of kinds.
ELSEWHERE = ("help", "place", "kind")


def is_used(key: str) -> bool:
    """Whether the source can ask for a key."""
    whole, patterns = spelt()
    group, _, rest = key.partition(".")
    if key in whole or group in ELSEWHERE:
        return True
    if group in NAMED:
        name = re.sub(r"\.(what|why|fix|help|label|empty|lowest|summary|note)$", "", rest)
        names = NAMED[group]
        if names is not None:
            return name in names
        literal = [one for one in patterns if len(one.pattern.replace(".+", "")) > 4]
        if name in whole or any(one.fullmatch(name) or one.fullmatch(f"{name}:detail") for one in literal):
            return True
    return any(one.fullmatch(key) for one in patterns if one.pattern.startswith(re.escape(f"{group}.")))


def test_every_text_is_used() -> None:
    assert [key for key in TEXTS["en"] if not is_used(key)] == []


def test_every_text_that_is_asked_for_exists() -> None:
    asked = {
        str(node.args[0].value)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
        if ast.unparse(node.func) in ("say", "template", "Phrase", "Phrase.of")
    }
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "bad"
                and isinstance(node.args[1], ast.Constant)
            ):
                asked.add("model." + str(node.args[1].value))
    assert len(asked) > 100
    assert asked - TEXTS["en"].keys() == set()


def test_no_module_asks_which_language_it_is() -> None:
    """But the reader of messages that older versions wrote."""
    asking = [path.name for path in modules() if re.search(r"""lang\w* [!=]= ["']|\[lang [!=]=""", path.read_text())]
    assert asking == ["messages.py"]


# --- reading them


def test_a_text_is_shown_in_the_language_that_is_asked_for() -> None:
    assert say("message.import_exists.what", "en", path="x") == "x already exists."
    assert say("message.import_exists.what", "zh", path="x") == "x 已存在。"


@pytest.mark.parametrize("lang", LANGS)
def test_what_no_catalogue_has_keeps_its_name(lang: Lang) -> None:
    assert say("no.such.text", lang) == "no.such.text"
    assert template("no.such.text", lang) == ""
    assert named("phase", "dancing", lang) == "dancing"


@pytest.mark.parametrize(("count", "text"), [(0, "0 losses"), (1, "1 loss"), ("1", "1 loss"), (21, "21 losses")])
def test_a_word_follows_the_number_before_it(count: int | str, text: str) -> None:
    assert filled("{count} loss(es)", {"count": count}) == text


# --- choosing the language


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


# --- one and many


def test_one_is_not_a_plural() -> None:
    things = (
        "attempt|check|conversation|core|error|event|GPU|line|loss|process|prompt|record|row|step|text|token|turn|"
        "warning|answer|position|parameter"
    )
    plural = re.compile(rf"\b1 (?:(?!has)[a-z-]+ )?(?:{things})e?s\b|\(e?s\)")
    said = [filled(text, defaultdict(lambda: 1)) for key, text in TEXTS["en"].items() if key not in NEVER_ONE]
    assert [text for text in said if plural.search(text)] == []


@pytest.mark.parametrize(("rows", "counted"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1234, "1,234 rows")])
def test_counts_are_formatted_the_same_everywhere(rows: int, counted: str) -> None:
    assert f"{counted} written to" in say("import.written", "en", rows=rows, path="t.parquet")
    assert (
        f"on {counted.replace(',', '')} of"
        in Message.of("ended_tested", model="m", rows=rows, path="t", loss=1, bleu=1).what()
    )
    assert (
        f"{counted}, less"
        in Finding("warning", "rows_few", "train_file", {"path": "t", "rows": rows, "batch": 8}).what()
    )


def test_a_name_that_looks_like_a_count_is_unchanged() -> None:
    assert say("import.written", "en", rows=1, path=safe("2 file(s).parquet")) == "1 row written to 2 file(s).parquet"


# --- compiling them


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the English catalogue, compiled, which the program reads in this test."""
    shutil.copytree(texts.LOCALE / "en", tmp_path / "en")
    monkeypatch.setattr(texts, "LOCALE", tmp_path)
    monkeypatch.setattr(texts, "catalogue", texts.catalogue.__wrapped__)
    return tmp_path / "en" / "LC_MESSAGES" / "texts.po"


def test_an_edited_catalogue_is_recognized_and_compiled(copied: Path) -> None:
    assert fault("en") == ""
    copied.write_text(copied.read_text() + '\nmsgid "added"\nmsgstr "Added."\n')
    assert "make texts" in fault("en")

    compile_catalogues()
    assert fault("en") == ""
    assert say("added", "en") == "Added."


@pytest.mark.parametrize("content", [None, b"", b"\xde\x12\x04\x95", b"no catalogue"])
def test_a_program_without_a_compiled_catalogue_says_so_and_continues(copied: Path, content: bytes | None) -> None:
    compiled = copied.with_suffix(".mo")
    compiled.unlink()
    if content is not None:
        compiled.write_bytes(content)

    assert "make texts" in fault("en")
    assert say("phase.loading", "en") == "phase.loading"
    compile_catalogues()
    assert say("phase.loading", "en") == "loading"


def test_a_catalogue_that_is_not_valid_is_refused_with_its_line(copied: Path) -> None:
    copied.write_text(copied.read_text() + '\nmsgid "broken"\n')
    with pytest.raises(ValueError, match=r"texts\.po: .*broken"):
        compile_catalogues()
