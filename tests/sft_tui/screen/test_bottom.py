"""The last lines of a screen: keys, questions and what is typed."""

import pytest

from engine.contract.texts import Lang
from sft_tui.screen import actions
from sft_tui.screen.bottom import Question, asked, footer, footer_at
from sft_tui.screen.ink import columns
from tests.sft_tui.screen.conftest import SCREENS


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


@pytest.mark.parametrize("scope", SCREENS)
def test_while_text_is_typed_the_footer_shows_a_key_that_quits(scope: str) -> None:
    line = footer(scope, "en", 120, lambda action: action.name == "quit", typing=True)
    shown = "".join(text for text, _ in line)
    assert shown.split()[0] == "^q"
    assert footer_at(scope, "en", 120, 1, lambda action: action.name == "quit", typing=True) == "quit"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_is_possible_now_comes_first(lang: Lang) -> None:
    shown = "".join(text for text, _ in footer(actions.RUN, lang, 60, lambda _: True))
    assert shown.lstrip().startswith("enter ")
    assert footer_at(actions.RUN, lang, 60, 2, lambda _: True) == "rows"


def test_a_key_has_the_label_of_what_it_does_now() -> None:
    labels = {"go": "continue"}
    shown = "".join(text for text, _ in footer(actions.IMPORT, "en", 60, lambda _: True, labels))
    assert " enter continue " in shown
    assert footer_at(actions.IMPORT, "en", 60, shown.index("continue"), lambda _: True, labels) == "go"


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


def test_a_text_to_be_edited_is_harmless() -> None:
    lines = asked(Question("note", print, typed="a\x1b[2J\u202eb", cursor=2), 60)
    assert "note a␛▏[2J\ufffdb" in "".join(text for line in lines for text, _ in line)


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
