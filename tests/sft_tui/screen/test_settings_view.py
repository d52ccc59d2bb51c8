"""Settings as lines: which are listed, how they look, and what is said about them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.config import FIELDS, RunConfig, setting_of
from engine.contract.texts import Lang
from sft_tui.preflight.finding import Finding
from sft_tui.screen import settings_view
from sft_tui.screen.ink import columns
from sft_tui.screen.settings_view import SettingsView
from tests.sft_tui.screen.conftest import plain


def view_of(lang: Lang = "en", family: str = "", **values: Any) -> SettingsView:
    return SettingsView(RunConfig(), replace(RunConfig(), **values), values, family, lang)


def test_every_setting_is_listed_once_and_below_its_group() -> None:
    rows = settings_view.grouped(settings_view.listed(view_of(), everything=True))
    assert [name for _, name in rows if name] == list(FIELDS)
    assert len({group for group, name in rows if not name}) == sum(not name for _, name in rows)
    assert all(setting_of(name).group == group for group, name in rows if name)


def test_what_has_no_effect_is_hidden_until_it_is_searched_for_or_changed() -> None:
    view = view_of(pretrained_model="folder")
    assert not {"d_model", "lora_alpha"} & set(settings_view.listed(view))
    assert "d_model" in settings_view.listed(view, "d model")
    assert "d_model" in settings_view.listed(view, everything=True)
    assert "lora_alpha" in settings_view.listed(view_of(lora_rank=8))
    assert "d_model" in settings_view.listed(view_of(pretrained_model="folder", d_model=64))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("learn_rate", "learn_rate"),
        ("learn rate", "learn_rate"),
        ("LORA", "lora_rank"),
        ("学习率", "learn_rate"),
        ("checkpoints best", "output_dir"),
        ("adamw", "optimizer"),
    ],
)
def test_a_setting_is_found_by_its_name_or_by_words_of_either_language(query: str, found: str) -> None:
    assert found in settings_view.listed(view_of(), query)


def test_the_cursor_goes_to_the_name_that_is_meant() -> None:
    names = settings_view.listed(view_of(), "rate")
    assert settings_view.best(names, "rate") == "dropout_rate"
    assert settings_view.best(settings_view.listed(view_of(), "learn"), "learn") == "learn"
    assert settings_view.best(names, "") == ""
    assert settings_view.listed(view_of(), "no such words") == []


def test_the_summary_has_what_matters_and_what_was_changed() -> None:
    names = settings_view.summary(view_of(seed=1))
    assert {"epochs", "learn_rate", "train_file", "output_dir", "seed"} <= set(names)
    assert "hang_seconds" not in names
    assert len(names) < 20


def test_a_changed_value_has_a_sign_and_what_it_was() -> None:
    line = plain([settings_view.line(view_of(epochs=5), "epochs", 60)])
    assert line.startswith("* epochs")
    assert "(was 3) 5" in line
    assert "was" not in plain([settings_view.line(view_of(), "epochs", 60)])
    assert plain([settings_view.line(view_of(), "lora_alpha", 60)]).startswith("- lora_alpha")


def test_numbers_and_units_stand_in_columns_and_a_path_keeps_its_end() -> None:
    wide = ("max_seq_len", "512"), ("learn_rate", "5e-05"), ("save_steps", "312")
    ends = {plain([settings_view.line(view_of(), name, 60)]).index(text) + len(text) for name, text in wide}
    assert len(ends) == 1
    narrow = plain([settings_view.line(view_of(), "train_file", 44)])
    assert narrow.rstrip().endswith("train.parquet")
    assert "…" in narrow


def test_the_help_says_range_choices_and_what_was_found() -> None:
    finding = Finding("error", "file_missing", "train_file",
                      {"what": "training file", "what_zh": "训练文件", "path": "x", "setting": "train_file",
                       "advice": "Put it there.", "advice_zh": "请放入。"})  # fmt: skip
    assert "≥ 1" in plain(settings_view.about(view_of(), "epochs", [], 40))
    assert "adafactor, adamw" in plain(settings_view.about(view_of(), "optimizer", [], 40))
    assert "no effect" in plain(settings_view.about(view_of(), "lora_alpha", [], 60))
    assert "✗ The training file x" in plain(settings_view.about(view_of(), "train_file", [finding], 60))
    assert "✗" not in plain(settings_view.about(view_of(), "test_file", [finding], 60))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(FIELDS)),
    st.integers(20, 300),
    st.sampled_from(["en", "zh"]),
    st.text(max_size=60),
)
def test_a_line_has_exactly_its_width(name: str, width: int, lang: Lang, path: str) -> None:
    view = view_of(lang, train_file=path, epochs=7, learn_rate=1e-3)
    assert columns(settings_view.line(view, name, width)) == width
    for line in settings_view.about(view, name, [], width):
        assert columns(line) <= width


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_a_setting_was_is_shown_whole_or_not_at_all(lang: Lang) -> None:
    view = view_of(lang, epochs=7, test_file="data/a_rather_long_name_of_a_file.parquet")
    for width in range(20, 120):
        shown = plain([settings_view.line(view, "test_file", width)])
        assert view.was("test_file") in shown or "my_test" not in shown
        assert shown.count(")") == shown.count("(")
        assert shown.startswith("* test_file")
    assert view.was("epochs") in plain([settings_view.line(view, "epochs", 50)])
