import sys
from pathlib import Path

import pytest

from engine.contract.texts import Lang
from sft_tui.screen import actions, palette
from sft_tui.screen.app import SftTuiApp
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.bottom import Question, asked, footer, footer_at
from sft_tui.screen.ink import columns
from sft_tui.screen.launch_screen import LaunchScreen
from sft_tui.screen.run_screen import RunScreen
from sft_tui.screen.runs_screen import RunsScreen
from tests.processes import run

SCREENS: dict[str, type[CanvasScreen]] = {
    actions.LAUNCH: LaunchScreen,
    actions.RUN: RunScreen,
    actions.RUNS: RunsScreen,
}


@pytest.mark.parametrize("scope", SCREENS)
def test_a_key_has_one_action_on_a_screen(scope: str) -> None:
    keys = [key for action in actions.of_scope(scope) for key in action.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("scope", SCREENS)
def test_every_action_of_the_table_has_code(scope: str) -> None:
    for action in actions.of_scope(scope):
        assert hasattr(SCREENS[scope], f"do_{action.name}") or hasattr(SftTuiApp, f"do_{action.name}"), action.name


@pytest.mark.parametrize("scope", SCREENS)
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [60, 80, 120, 300])
def test_the_footer_fits_and_always_shows_help_and_quit(scope: str, lang: Lang, width: int) -> None:
    line = footer(scope, lang, width, lambda _: True)
    assert columns(line) == width
    shown = "".join(text for text, _ in line)
    assert "? " in shown
    assert " q " in shown


def test_the_footer_can_be_clicked() -> None:
    def offered(action: actions.Action) -> bool:
        return action.name != "stop"

    shown = "".join(text for text, _ in footer(actions.RUN, "en", 120, offered))
    assert "stop" not in shown
    assert footer_at(actions.RUN, "en", 120, shown.index("pause"), offered) == "pause"
    assert footer_at(actions.RUN, "en", 300, 299, offered) == ""


@pytest.mark.parametrize(("words", "lang", "first"), [
    ("", "en", "stop"), ("log", "en", "log_scale"), ("sav", "en", "stop"), ("without", "en", "now"),
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


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_question_is_shown_to_its_end(width: int) -> None:
    words = f"Delete {', '.join(f'model_save/sft_small/checkpoints/step-{n:08d}' for n in range(5))} (2.90 GB)? y/n"
    lines = asked(Question(words, print), width)
    assert {columns(line) for line in lines} == {width}
    shown = "".join(text for line in lines for text, _ in line)
    assert "(2.90 GB)?" in shown
    assert shown.rstrip().endswith("y/n")


def test_the_end_of_a_long_input_stays_visible() -> None:
    question = Question("train_file =", print, typed="数据/" * 40 + "end")
    lines = asked(question, 60)
    assert {columns(line) for line in lines} == {60}
    shown = ["".join(text for text, _ in line) for line in lines]
    assert shown[0].startswith(" train_file = 数据")
    assert shown[-1].rstrip().endswith("end▏")


def test_any_number_of_choices_can_be_reached() -> None:
    question = Question("Which one?", print, choices=[(f"choice {n}", "what it does " * 20) for n in range(1, 31)])
    assert question.pressed("3") == 3
    assert question.pressed("x") == question.pressed("0") == 0
    assert question.pressed("end") == 0
    shown = "".join(text for line in asked(question, 60) for text, _ in line)
    assert "▸   choice 30" in shown
    assert "choice 22" in shown
    assert "choice 21" not in shown
    assert question.pressed("down") == 0
    assert question.pressed("enter") == 30
    assert len(asked(question, 60)) <= 14
    assert {columns(line) for line in asked(question, 60)} == {60}


@pytest.mark.parametrize(
    "words", ["将 va.parquet 导入 data/train.parquet,data/validation.parquet", "导入 " + "数" * 60]
)
def test_a_long_choice_is_cut_once(words: str) -> None:
    question = Question("Which one?", print, choices=[("first", ""), (words, "sft-tui data import va.parquet")])
    shown = ["".join(text for text, _ in line).rstrip() for line in asked(question, 60)]
    assert shown[-1].count("…") == 1
    question.pressed("down")
    assert "sft-tui data import va.parquet" in "".join(text for line in asked(question, 60) for text, _ in line)


@pytest.mark.parametrize("command", [["--help"], ["runs"], ["presets"], ["status"]])
def test_commands_without_a_screen_never_load_one(tmp_path: Path, command: list[str]) -> None:
    code = (
        "import sys, contextlib\n"
        f"sys.argv = ['sft-tui', *{command!r}]\n"
        "from sft_tui.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "print(sorted(name for name in ('textual', 'torch', 'transformers') if name in sys.modules))\n"
    )
    assert run(sys.executable, "-c", code, folder=tmp_path).out.endswith("[]\n")
