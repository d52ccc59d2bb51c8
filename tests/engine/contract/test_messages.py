"""Everything said exists in both languages, is used, and can be shown whatever its arguments are."""

import ast
import re
import shlex
import string
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.messages import BusyError, InputError, Message, Value
from engine.contract.reasons import counted
from engine.contract.texts import LANGS, Lang
from engine.data.importing.convert import REMEDIES
from engine.data.text_checks import fault_of
from sft_tui.cli import data_commands, main, model_commands, preset_commands
from tests.catalogues import MESSAGES, TEXTS, modules, placeholders, wording

SAYING = {"Message", "Message.of", "InputError", "BusyError"}
SAYS = re.compile(r"\b(Message|InputError|BusyError|_say)\b")  # a file without one of these need not be parsed
# Where a code is put together.
CODES_OF = {
    "f'reader_{self.cause}'": ["reader_crash", "reader_memory", "reader_failed"],
    "f'ended_{why}'": ["ended_still", "ended_silent", "ended_suspended"],
    "f'import_nothing{_remedy(account)}'": [
        f"import_nothing{remedy}" for remedy in ("", "_records", "_trees", "_options", "_utf8", "_tools", "_content")
    ],
    "f'ended_{reason}'": ["ended_stopped", "ended_paused", "ended_orphaned"],
    "_remedy(account)": ["import_nothing", *REMEDIES.values()],
}
CHINESE = re.compile("[一-鿿]")
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
ANYTHING: st.SearchStrategy[Any] = st.one_of(PLAIN, st.lists(PLAIN), st.dictionaries(st.text(), PLAIN))


class Use(NamedTuple):
    """A place in the source that says something: which code, and its arguments where they stand there by name."""

    place: str
    code: str
    args: set[str] | None


def uses() -> Iterator[Use]:
    """Every place that says something of the catalogue."""
    for path in modules():
        text = path.read_text(encoding="utf-8")
        if not SAYS.search(text):
            continue
        tree = ast.parse(text)
        assigned = {
            ast.unparse(node.targets[0]): node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = ast.unparse(node.func)
            if name in SAYING:
                found = codes(assigned.get(ast.unparse(node.args[0]), node.args[0]))
            elif name == "self._say":  # the one function that is given codes, and adds arguments of its own
                found = [code for each in node.args[:2] for code in codes(each)]
            else:
                continue
            args = named_arguments(node) if name in SAYING else None
            yield from (Use(f"{path.name}:{node.lineno}", code, args) for code in found)


def codes(first: ast.expr) -> list[str]:
    """The codes that the first argument of a call may be."""
    if isinstance(first, ast.IfExp):
        return [*codes(first.body), *codes(first.orelse)]
    if ast.unparse(first) in CODES_OF:
        return CODES_OF[ast.unparse(first)]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return [first.value]
    return []  # passed on from a place that spells it


def named_arguments(call: ast.Call) -> set[str] | None:
    """The names of the arguments, None where some of them come from elsewhere."""
    names: set[Any] = {keyword.arg for keyword in call.keywords}
    for given_args in call.args[1:]:
        if not isinstance(given_args, ast.Dict):
            return None
        names |= {key.value if isinstance(key, ast.Constant) else None for key in given_args.keys}
    return None if None in names else names


USES = list(uses())


# --- the catalogue


@pytest.mark.parametrize("code", MESSAGES)
def test_every_message_exists_in_both_languages(code: str) -> None:
    said = MESSAGES[code]

    assert said.en.strip()
    assert CHINESE.search(said.zh)
    assert not CHINESE.search(said.en + said.en_fix)
    assert bool(said.en_fix) == bool(said.zh_fix)


@pytest.mark.parametrize("code", MESSAGES)
def test_both_languages_show_the_same_arguments(code: str) -> None:
    def same(en: str, zh: str) -> None:
        """An argument that is itself a text has its Chinese in `<name>_zh`."""
        assert placeholders(en) == sorted(name.removesuffix("_zh") for name in placeholders(zh))

    said = MESSAGES[code]
    same(said.en, said.zh)
    same(said.en_fix, said.zh_fix)


@pytest.mark.parametrize("code", MESSAGES)
def test_a_placeholder_is_a_plain_name(code: str) -> None:
    for template in MESSAGES[code]:
        for _, name, form, conversion in string.Formatter().parse(template):
            assert name is None or name.isidentifier()
            assert not form
            assert not conversion


def options_of(command: click.Command) -> set[str]:
    """The options that a command takes."""
    return {spelt for parameter in command.params for spelt in parameter.opts if spelt.startswith("--")}


OPTION = r"--[a-z][\w-]+"
COMMANDS = {name: options_of(command) for name, command in main.cli.commands.items()}
for group in (data_commands.data, preset_commands.presets, model_commands.model):
    COMMANDS |= {f"{group.name} {name}": options_of(command) for name, command in group.commands.items()}


@pytest.mark.parametrize("code", MESSAGES)
def test_the_options_that_a_fix_names_exist(code: str) -> None:
    said = MESSAGES[code]

    named = re.findall(OPTION, said.en_fix)

    # accelerate's own, for the commands of the original guide
    assert set(named) - {"--num_processes"} <= set.union(*COMMANDS.values())
    assert sorted(named) == sorted(re.findall(OPTION, said.zh_fix))


@pytest.mark.parametrize("code", MESSAGES)
def test_the_commands_that_a_fix_names_exist_with_their_options(code: str) -> None:
    def named(template: str) -> list[tuple[str, set[str]]]:
        spelt = template.replace("{resume_option}", "sft-tui resume RUN").replace("{fresh_option}", "sft-tui run X")
        found = re.findall(r"`sft-tui (\w+)([^`]*)`", spelt)
        return [(command, set(re.findall(OPTION, rest))) for command, rest in found]

    said = MESSAGES[code]
    for command, options in named(said.en_fix):
        assert options <= COMMANDS[command]
    assert sorted(named(said.en_fix), key=str) == sorted(named(said.zh_fix), key=str)


# --- its use


def test_every_message_used_is_in_the_catalogue() -> None:
    assert len(USES) > 40
    assert [use for use in USES if use.code not in MESSAGES] == []


def test_every_message_is_given_all_its_arguments() -> None:
    lacking = {
        (use.place, name)
        for use in USES
        if use.args is not None
        for template in wording(use.code)
        for name in placeholders(template)
        if name not in use.args
    }

    assert lacking == set()


def test_every_phase_has_a_chinese_name() -> None:
    phases = {
        str(node.args[0].value)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("phase", "Phase")
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }

    assert len(phases) > 4
    assert [name for name in phases if f"phase.{name}" not in TEXTS["zh"]] == []


# --- rendering


@pytest.mark.parametrize("code", MESSAGES)
def test_a_message_with_all_its_arguments_shows_each_of_them(code: str) -> None:
    said = MESSAGES[code]
    names = {name for template in said for name in placeholders(template)}
    message = Message(code, {name: f"<{name}>" for name in names})

    for lang, what, fix in (("en", said.en, said.en_fix), ("zh", said.zh, said.zh_fix)):
        assert all(f"<{name}>" in message.what(lang) for name in placeholders(what))  # type: ignore[arg-type]
        assert all(f"<{name}>" in message.fix(lang) for name in placeholders(fix))  # type: ignore[arg-type]
        assert "{" not in message.text(lang)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [code for code in MESSAGES if placeholders(MESSAGES[code].en)])
def test_a_message_without_arguments_shows_its_writers_text(code: str) -> None:
    for lang in LANGS:
        assert Message(code, {}, "said then").what(lang) == "said then"
        assert Message(code).what(lang) == code


def test_a_message_without_arguments_repeats_nothing() -> None:
    written = Message.of("best_missing", path="here").text()

    assert Message("best_missing", {"folder": "here"}, written).text() == written


@pytest.mark.parametrize("lang", LANGS)
def test_an_unknown_message_shows_its_writers_text(lang: Lang) -> None:
    assert Message("of_a_later_version", {"a": 1}, "said then").text(lang) == "said then"
    assert Message("of_a_later_version").text(lang) == "of_a_later_version"
    assert Message("of_a_later_version").fix(lang) == ""


def test_a_message_says_what_happened_and_what_to_do() -> None:
    message = Message.of("preset_unknown", name="x", known="a, b")

    assert message.text() == "There is no preset named x. Known presets: a, b."
    assert message.text("zh") == "没有名为 x 的预设。可用的预设：a, b。"
    assert Message.of("head_frozen").text() == Message.of("head_frozen").what()


def test_a_phase_is_named_in_the_language_of_the_reader() -> None:
    message = Message.of("ended_stopped_early", phase="tokenizing")

    assert "tokenizing" in message.what("en")
    assert "分词" in message.what("zh")
    assert "dancing" in Message.of("ended_stopped_early", phase="dancing").what("zh")


def test_braces_in_an_argument_are_shown_as_they_are() -> None:
    message = Message.of("model_bad", path="{why}", why="{0.__class__} {")

    assert "{why}" in message.what()
    assert "{0.__class__} {" in message.what("zh")


@pytest.mark.parametrize("phase", [[], {}, ["training"], None, 3, 1.5, True])
def test_a_phase_that_is_not_text_can_be_shown(phase: Any) -> None:
    for lang in LANGS:
        assert Message("ended_stopped_early", {"phase": phase}, "said then").text(lang)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), code=st.one_of(st.sampled_from(sorted(MESSAGES)), st.text(min_size=1)), fallback=st.text())
def test_a_message_can_be_shown_whatever_its_arguments(data: st.DataObject, code: str, fallback: str) -> None:
    wanted = sorted({name for template in wording(code) for name in placeholders(template)})
    names = st.sampled_from(wanted) if wanted else st.text()
    message = Message(code, data.draw(st.dictionaries(names, ANYTHING)), fallback)

    for lang in LANGS:
        assert message.text(lang)


# --- errors


def test_an_error_carries_its_message_and_exit_code() -> None:
    refused, busy = InputError("preset_unknown", name="x", known="a"), BusyError("busy", path="p", holder="h", pid=7)

    assert str(refused) == refused.message.text("en")
    assert (refused.exit_code, busy.exit_code) == (2, 3)
    assert isinstance(busy, InputError)


@pytest.mark.parametrize("code", MESSAGES)
def test_an_error_accepts_every_argument_of_its_message(code: str) -> None:
    args = {name: f"<{name}>" for template in MESSAGES[code] for name in placeholders(template)}

    assert InputError(code, **args).message == Message.of(code, **args) == Message(code, args)


@pytest.mark.parametrize(("prompt", "response"), [(None, "a"), ("a", None), (b"\xff", "a"), (" ", "a"), ("a", "")])
def test_reasons_for_leaving_rows_out_exist_in_both_languages(prompt: str | bytes | None, response: str | None) -> None:
    reason = str(fault_of(prompt, response))
    message = Message.of("rows_dropped", path="x", rows=9, dropped=3, first=1, reasons=counted({reason: 3}))
    assert f"{TEXTS['en'][f'reason.{reason}']}: 3" in message.what("en")
    assert f"{TEXTS['zh'][f'reason.{reason}']}：3" in message.what("zh")


def test_commands_in_messages_are_quoted_for_the_shell() -> None:
    args: dict[str, Value] = {"steps_total": 5, "loss": "1", "bleu": "2", "epoch": 1, "path": "a b'/best"}
    assert shlex.split(Message.of("ended_finished", **args).fix().removeprefix("Try it: "))[3] == "a b'/best"
    assert Message.of("ended_finished", **args).what().endswith("the model is in a b'/best.")


def test_arguments_of_another_version_cost_only_the_advice() -> None:
    message = Message.of("unfinished_run", path="out", run="sft-1", step=3, steps_total="9")
    assert (message.what(), message.fix()) == ("out holds the run sft-1, cut at step 3 of 9.", "")
