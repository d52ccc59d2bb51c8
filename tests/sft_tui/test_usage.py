"""The command line in both languages, as a person meets it."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import train_low_mem
from engine.contract.config import FIELDS, setting_of
from sft_tui import cli
from sft_tui.usage import CLICK_ZH, HELP_ZH, MODULES, one_line
from tests.processes import SFT_TUI, run

CHINESE = re.compile("[一-鿿]")
ZH = {"LC_ALL": "zh_CN.UTF-8"}


def is_setting(option: click.Option) -> bool:
    """Whether an option is a setting of a run, and says what that says."""
    return option.name in FIELDS and str(option.help).startswith(setting_of(option.name).help("en"))


def helps(command: click.Command) -> Iterator[str]:
    """Every help text of a command and of those below it, the settings' aside, which have their own catalogue."""
    yield command.help or ""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help and not is_setting(parameter):
            yield parameter.help
    for below in getattr(command, "commands", {}).values():
        yield from helps(below)


def test_every_help_text_has_its_chinese() -> None:
    found = {one_line(text) for command in (cli.cli, train_low_mem.cli) for text in helps(command)}
    assert found == HELP_ZH.keys()


@pytest.mark.parametrize("catalogue", [CLICK_ZH, HELP_ZH])
def test_what_is_filled_in_is_the_same_in_both_languages(catalogue: dict[str, str]) -> None:
    for en, zh in catalogue.items():
        places = re.compile(r"\{[a-z_!]+\}|%\([a-z]+\)s|`[^`]+`|--[a-z-]+")
        assert sorted(places.findall(en)) == sorted(places.findall(zh)), en
        assert CHINESE.search(zh)


def test_clicks_texts_are_those_that_click_looks_up() -> None:
    source = "\n".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in MODULES)
    spelt = re.sub(r'"\s*\n\s*"', "", source)
    assert [text for text in CLICK_ZH if f'"{text}"' not in spelt] == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["check", "--help"], 0, "用法： sft-tui check"),
        (["data", "import", "--help"], 0, "划给验证的比例"),
        (["check"], 2, "错误：缺少参数 'PRESET'"),
        (["check", "sft-small", "--memory_limt", "8GB"], 2, "没有选项 '--memory_limt'"),
        (["chek"], 2, "没有命令 'chek'"),
        (["data", "import", "nowhere.json"], 2, "'nowhere.json' 不存在"),
        (["data", "import", "x", "--history", "two"], 2, "two 不是轮数；可用 all、none 或一个数字"),
        (["data", "show", "x", "--row", "-1"], 2, "不在范围 x>=0 内"),
        (["run", "sft-small", "--resume", "--fresh"], 2, "只能选其一"),
        (["data", "import", __file__, "--train", ""], 2, "指定要写出的文件"),
    ],
)
def test_usage_is_told_in_chinese(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    result = run(*SFT_TUI, *words, folder=tmp_path, env=ZH)
    assert result.code == code
    assert said in result.out + result.err
    assert not re.search(r"\b(Usage|Options|Error|Try|Missing|No such|does not)\b", result.out + result.err)


def test_usage_is_told_in_english(tmp_path: Path) -> None:
    result = run(*SFT_TUI, "check", folder=tmp_path)
    assert "Missing argument 'PRESET'" in result.err
    assert not CHINESE.search(result.err)
