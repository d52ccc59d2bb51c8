"""The command line in both languages, as a person meets it."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from babel.messages.pofile import read_po

import train_low_mem
from engine.contract.texts import LOCALE
from sft_tui.cli import data_commands, main
from sft_tui.text import width
from tests.catalogues import TEXTS
from tests.processes import run

CHINESE = re.compile("[一-鿿]")
COMMANDS = [
    "",
    *main.cli.commands,
    *(f"data {name}" for name in data_commands.data.commands),
    "presets list",
    "presets show",
]


def helps(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """The help of a command and of those below it, and of their options, each with its place."""
    yield " ".join(path), command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield " ".join((*path, parameter.opts[0])), parameter.help
    for name, below in getattr(command, "commands", {}).items():
        yield from helps(below, (*path, name))


def keys_of(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
    """Every key that the help of a command, of those below it and of their options may have."""
    key = ".".join(("help", *path))
    yield key
    for parameter in command.params:
        yield from (f"{start}.{name}" for name in parameter.opts for start in (key, "help"))
    for name, below in getattr(command, "commands", {}).items():
        yield from keys_of(below, (*path, name))


PROGRAMS: tuple[tuple[click.Command, tuple[str, ...]], ...] = ((main.cli, ()), (train_low_mem.cli, ("guide",)))


@pytest.mark.parametrize(("program", "path"), PROGRAMS)
def test_commands_and_options_have_help(program: click.Command, path: tuple[str, ...]) -> None:
    assert [place for place, text in helps(program, path) if not text] == []


def test_the_catalogue_has_help_only_of_what_exists() -> None:
    known = {key for program, path in PROGRAMS for key in keys_of(program, path)}
    known |= {"help.heading", "help.extra_separator"}
    assert [key for key in TEXTS["en"] if key.split(".")[0] == "help" and key not in known] == []


def in_the_catalogue_of_click() -> list[tuple[str, str]]:
    """Click's own messages with their Chinese."""
    with (LOCALE / "zh" / "LC_MESSAGES" / "click.po").open("rb") as file:
        read = [one for one in read_po(file, abort_invalid=True) if one.id]
    pairs = ((one.id, one.string) if one.pluralizable else ([one.id], [one.string]) for one in read)
    return [(str(en), str(zh)) for ids, texts in pairs for en, zh in zip(list(ids), list(texts or ""), strict=True)]


def test_clicks_messages_show_the_same_arguments_in_chinese() -> None:
    places = re.compile(r"\{[a-z_!]+\}|%\([a-z]+\)s")
    for en, zh in in_the_catalogue_of_click():
        assert sorted(places.findall(en)) == sorted(places.findall(zh)), en
        assert CHINESE.search(zh)


def test_the_catalogue_of_click_has_what_click_looks_up() -> None:
    folder = Path(str(click.__file__)).parent
    spelt = {
        node.value
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    }
    assert [en for en, _ in in_the_catalogue_of_click() if en not in spelt] == []


# The words of a command, its exit code, and what it says in Chinese and in English.
MISTAKES: list[tuple[str, int, str, str]] = [
    ("", 2, "界面需要终端", "The screen needs a terminal"),
    ("chek", 2, "错误：没有命令 'chek'。是否想用 'check'？", "Error: No such command 'chek'. Did you mean 'check'?"),
    ("data", 2, "用法：sft-tui data [选项] 命令", "Usage: sft-tui data [OPTIONS] COMMAND"),
    ("data impport x", 2, "没有命令 'impport'。是否想用 'import'？", "Did you mean 'import'?"),
    (
        "--logs x data",
        2,
        "--logs 只对界面有效，data 没有这个选项",
        "--logs only applies to the screen, and data has no such",
    ),
    (
        "--logs x runs",
        2,
        "写在命令之前的 --logs 只对界面有效：请写在 runs 之后。",
        "--logs only applies to the screen: put it",
    ),
    ("--lang de", 2, "'de' 不在可选值 'en'、'zh' 之中。", "'de' is not one of 'en', 'zh'."),
    ("check", 2, "错误：缺少参数 '预设'。", "Error: Missing argument 'PRESET'."),
    ("rehearse", 2, "错误：缺少参数 '预设'。", "Error: Missing argument 'PRESET'."),
    ("check nope", 2, "没有名为 nope 的预设", "There is no preset named nope"),
    (
        "check sft-small --memory_limt 8GB",
        2,
        "没有选项 '--memory_limt'。是否想用 '--memory_limit'？",
        "Did you mean '--memory_limit'?",
    ),
    ("check sft-small --memory-limit much", 2, "much 不是有效的大小", '"much" is not a valid size'),
    ("check sft-small --epochs 0", 2, "epochs = 0：应满足 ≥ 1。", "epochs = 0: it must be ≥ 1."),
    ("check sft-small --max_seq_len 1", 2, "应满足 ≥ 2 词元。", "it must be ≥ 2 tokens."),
    (
        "check sft-small --learn_rate abc",
        2,
        "'--learn_rate' / '--learning_rate' 的值无效：learn_rate = abc：应为数字，例如 5e-5。",
        "learn_rate = abc: it must be a number, such as 5e-5.",
    ),
    (
        "check sft-small --epochs 1.5",
        2,
        "'--epochs' 的值无效：epochs = 1.5：应为整数，例如 3。",
        "epochs = 1.5: it must be a whole number, such as 3.",
    ),
    ("run", 2, "缺少参数 '预设'。", "Missing argument 'PRESET'."),
    ("run sft-smal", 2, "可用的预设：sft-small", "Known presets: sft-small"),
    ("run sft-small --resume --fresh", 2, "只能选其一", "give only one of them"),
    ("run sft-small more words", 2, "多余的参数（more words）", "Got unexpected extra arguments (more words)"),
    ("run sft-small --epochs", 2, "选项 '--epochs' 需要一个值。", "Option '--epochs' requires an argument."),
    ("run sft-small --json=yes", 2, "选项 '--json' 不带值。", "Option '--json' does not take a value."),
    ("test", 2, "二者选一", "and only one of them"),
    ("test --run nope --logs kept", 2, "没有名为 nope 的运行", "There is no run named nope"),
    ("test sft-small", 2, "找不到测试文件", "The test file"),
    ("presets sow", 2, "没有命令 'sow'。是否想用 'show'？", "Did you mean 'show'?"),
    ("presets show", 2, "缺少参数 '名称'。", "Missing argument 'NAME'."),
    ("presets show sft-smal", 2, "没有名为 sft-smal 的预设", "There is no preset named sft-smal"),
    ("data import", 2, "缺少参数 '文件...'。", "Missing argument 'FILES...'."),
    (
        "data import nowhere.json",
        2,
        "'文件...' 的值无效：路径 'nowhere.json' 不存在。",
        "Path 'nowhere.json' does not exist.",
    ),
    ("data import rows --train ''", 2, "指定要写出的文件", "--train names the file to write"),
    ("data import rows --history two", 2, "two 不是轮数；可用 all、none 或一个数字", "two is not a number of turns"),
    ("data import rows --valid-ratio 2", 2, "2.0 不在范围 0<=x<=0.9 内。", "2.0 is not in the range 0<=x<=0.9."),
    ("data import rows --sample many", 2, "'many' 不是有效的整数。", "'many' is not a valid integer"),
    ("data show", 2, "缺少参数 '文件'。", "Missing argument 'FILE'."),
    (
        "data show nope",
        2,
        "'文件' 的值无效：文件 'nope' 不存在。",
        "Invalid value for 'FILE': File 'nope' does not exist.",
    ),
    ("data show rows", 2, "文件 'rows' 是目录。", "File 'rows' is a directory."),
    ("data show rows --row -1", 2, "不在范围 x>=0 内。", "-1 is not in the range x>=0."),
    ("data check nope", 2, "文件 'nope' 不存在。", "File 'nope' does not exist."),
    ("data check rows", 2, "文件 'rows' 是目录。", "File 'rows' is a directory."),
    ("data tokenizer nope", 2, "文件 'nope' 不存在。", "File 'nope' does not exist."),
    ("data tokenizer rows", 2, "文件 'rows' 是目录。", "File 'rows' is a directory."),
    ("status", 2, "logs 中没有运行", "There are no runs in logs"),
    ("logs nope", 2, "logs 中没有运行", "There are no runs in logs"),
    ("logs demo-7 --logs kept", 2, "是否想用 demo-1？", "Did you mean demo-1?"),
    ("logs zzz --logs kept", 2, "其中最新的：demo-1。", "The newest there: demo-1."),
    ("attach nope --logs kept", 2, "没有名为 nope 的运行", "There is no run named nope in kept"),
    ("stop nope --logs kept", 2, "没有名为 nope 的运行", "There is no run named nope in kept"),
    ("pause nope --logs kept", 2, "没有名为 nope 的运行", "There is no run named nope in kept"),
    ("continue nope --logs kept", 2, "没有名为 nope 的运行", "There is no run named nope in kept"),
    ("resume nope --logs kept", 2, "没有名为 nope 的运行", "There is no run named nope in kept"),
    ("reply", 2, "没有模型目录", "There is no model folder model_save/sft_small/best."),
    ("reply hello --max-new-tokens 0", 2, "0 不在范围", "0 is not in the range 1<=x<=1048576."),
    ("reply hello --temperature -1", 2, "-1.0 不在范围", "-1.0 is not in the range"),
    ("runs", 0, "logs 中还没有运行", "No runs in logs yet"),
    *((f"{name} --help".strip(), 0, "用法：sft-tui", "Usage: sft-tui") for name in COMMANDS),
]
ENGLISH = re.compile(
    r"\b(Usage|Options|Commands|Error|Try|Missing|Invalid|No such|Did you|does not|is not|TEXT|INTEGER|FLOAT|PATH|"
    r"default|There)\b|\[(tokens|rows|steps|seconds)\]"
)
CHILD = """
import contextlib, io, json, shlex, sys
from sft_tui.cli import main as cli

def said(words):
    sys.argv, out, code = ["sft-tui", *shlex.split(words)], io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return [code, out.getvalue()]

print(json.dumps([said(words) for words in json.loads(sys.argv[1])]))
"""
Said = dict[str, tuple[int, str]]


def answers(folder: Path, lang: str) -> Said:
    """The exit code and the output of each of these commands, in one process."""
    (folder / "rows").mkdir()
    (folder / "kept" / "demo-1").mkdir(parents=True)
    (folder / "kept" / "demo-1" / "run.json").write_text("{}")
    words = [words for words, *_ in MISTAKES]
    result = run(sys.executable, "-c", CHILD, json.dumps(words), folder=folder, env={"LC_ALL": lang, "COLUMNS": "80"})
    assert result.code == 0, result.err
    return dict(zip(words, json.loads(result.out), strict=True))


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Said:
    return answers(tmp_path_factory.mktemp("zh"), "zh_CN.UTF-8")


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Said:
    return answers(tmp_path_factory.mktemp("en"), "C.UTF-8")


@pytest.mark.parametrize(("words", "code", "zh", "en"), MISTAKES)
def test_usage_errors_exist_in_both_languages(
    chinese: Said, english: Said, words: str, code: int, zh: str, en: str
) -> None:
    assert chinese[words][0] == english[words][0] == code
    assert zh in chinese[words][1]
    assert en in english[words][1]
    assert not CHINESE.search(english[words][1])
    assert not ENGLISH.search(chinese[words][1])
    assert not re.search("[\u4e00-\u9fff][,;:?!.](?: |$)", chinese[words][1], re.MULTILINE)


@pytest.mark.parametrize("words", [words for words, *_ in MISTAKES if words.endswith("--help")])
def test_help_fits_80_columns_and_cuts_no_sentence(chinese: Said, english: Said, words: str) -> None:
    for said in (chinese[words][1], english[words][1]):
        assert max(map(width, said.splitlines())) <= 80
        assert not re.search(r"^  [a-z]+  .*\.\.\.$", said, re.MULTILINE)
