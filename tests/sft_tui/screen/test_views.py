"""Every screen at two sizes in both languages as it was kept, and at any size with anything in it."""

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import events
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui.listing import COLUMNS
from sft_tui.log_lines import Earlier, Gap, LogLine
from sft_tui.screen import chart_panel, help_view, launch_view, log_panel, run_view, runs_view, samples_panel
from sft_tui.screen.ink import Ink, Line, columns
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.text import safe
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import (
    KILLED,
    SIZES,
    launch_screen,
    plain,
    run_of,
    run_screen,
    runs_screen,
    same_as_kept,
    story,
)

SCREENS: dict[str, Callable[[Lang, int, int], list[Line]]] = {
    "launch": lambda lang, w, h: launch_view.draw(launch_screen(lang), w, h),
    "launch-findings": lambda lang, w, h: launch_view.draw(launch_screen(lang, panel="findings"), w, h),
    "launch-settings": lambda lang, w, h: launch_view.draw(launch_screen(lang, panel="settings", setting=18), w, h),
    "launch-first": lambda lang, w, h: launch_view.draw(
        launch_screen(lang, report=None, doing="…", resumable={}), w, h
    ),
    "run": lambda lang, w, h: run_view.draw(run_screen(lang), w, h),
    "run-log": lambda lang, w, h: run_view.draw(run_screen(lang, page="log", level="all", search="0"), w, h),
    "run-ended": lambda lang, w, h: run_view.draw(run_screen(lang, KILLED), w, h),
    "runs": lambda lang, w, h: runs_view.draw(runs_screen(lang), w, h),
    "runs-compared": lambda lang, w, h: runs_view.draw(runs_screen(lang, marked=True), w, h),
    "help": lambda lang, w, h: help_view.draw("run", lang, w, h, 0),
}
WIDTHS, HEIGHTS = st.integers(40, 300), st.integers(10, 80)


def exact(lines: list[Line], width: int, height: int) -> None:
    assert len(lines) == height
    assert {columns(line) for line in lines} == {width}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_matches_its_snapshot(name: str, lang: Lang, size: tuple[int, int]) -> None:
    width, height = size[0], size[1] - 1  # the last line is the footer
    lines = SCREENS[name](lang, width, height)
    exact(lines, width, height)
    same_as_kept(f"{name}-{lang}-{size[0]}x{size[1]}", lines)


@pytest.mark.parametrize("name", SCREENS)
@settings(max_examples=25, deadline=None)
@given(width=WIDTHS, height=HEIGHTS)
def test_a_screen_can_have_any_size(name: str, width: int, height: int) -> None:
    exact(SCREENS[name]("zh", width, height), width, height)


ANYTHING = st.text(alphabet=st.characters(codec="utf-8"), max_size=30)
NUMBERS = st.floats()
HOSTILE: st.SearchStrategy[events.Event] = st.one_of(
    st.builds(
        step, st.integers(1, 10**6), loss=NUMBERS, lr=NUMBERS, grad_norm=NUMBERS, steps_total=st.integers(0, 9),
        tokens=st.integers(0, 9), padded_tokens=st.integers(0, 9),
    ),
    st.builds(
        dataclasses.replace, st.just(EVAL), loss=NUMBERS, bleu=NUMBERS, step=st.integers(-5, 99), signature=ANYTHING
    ),
    st.builds(events.Sample, st.just(1), st.integers(0, 3), st.integers(0, 2), ANYTHING, ANYTHING, ANYTHING),
    st.builds(events.Gpu, st.integers(-9, 9), ANYTHING, st.dictionaries(ANYTHING, ANYTHING, max_size=3)),
    st.builds(
        events.Host, *[st.integers(-9, 10**12)] * 2, st.lists(st.integers(-9, 10**12)), NUMBERS, st.integers(0, 9)
    ),
    st.builds(events.Phase, ANYTHING, st.integers(-9, 99), st.integers(-9, 99)),
    st.builds(
        events.RunEnded, ANYTHING, st.integers(0, 3), st.just(KILLED.message),
        st.dictionaries(ANYTHING, ANYTHING, max_size=3), st.dictionaries(ANYTHING, NUMBERS, max_size=3),
    ),
    st.just(STARTED), st.just(PLAN),
    st.builds(dataclasses.replace, st.just(PLAN), steps_per_epoch=st.integers(1, 9), steps_total=st.integers(-9, 99)),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    told=st.lists(HOSTILE, max_size=12), width=WIDTHS, height=HEIGHTS, name=ANYTHING, alive=st.booleans(),
    log=st.lists(ANYTHING, max_size=6), selection=st.sampled_from([
        Selection(), Selection(log_scale=True), Selection(window=16, back=3), Selection(page="log", level="all"),
        Selection(page="machine"), Selection(page="samples"), Selection(metric="padding"),
        Selection(metric="lr", log_scale=True), Selection(search="[/x]"),
    ]),
)  # fmt: skip
def test_any_stream_is_shown_without_escapes(
    told: list[events.Event], width: int, height: int, name: str, alive: bool, log: list[str], selection: Selection
) -> None:
    run, curves = run_of(iter(told), alive=alive, name="run-" + name.replace("/", "_").replace("\0", "_"))
    lines = [LogLine("00:00:00", "note", safe(text)) for text in log]
    shown = run_view.draw(RunView(run, curves, lines, selection), width, height)
    exact(shown, width, height)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in plain(shown).replace("\n", ""))


def test_nan_is_a_gap_that_is_marked() -> None:
    assert "×" in plain(run_view.draw(run_screen(), 120, 39))


def test_the_certificate_replaces_the_bars() -> None:
    shown = plain(run_view.draw(run_screen(ended=KILLED), 120, 39))
    assert "━" not in "".join(shown.splitlines()[:3])
    assert "f apply learn_rate = 2.5e-05 and resume" in shown


def test_low_memory_is_marked() -> None:
    tight = events.Host(16_000_000_000, 600_000_000, [9_000_000_000], 99.0, 1)
    run, curves = run_of(iter([STARTED, PLAN, tight]))
    assert "! 600.00 MB" in plain(run_view.draw(RunView(run, curves, []), 120, 39))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_load_memory_temperature_and_power_of_each_gpu_are_shown(width: int, height: int) -> None:
    shown = plain(run_view.draw(run_screen(), width, height - 1))
    assert shown.count("71 °C  148") == 2
    assert shown.count("93 %") == 2
    assert shown.count("6.5/12.9 GB") == 2


def test_missing_gpu_readings_are_dashes() -> None:
    absent = dict.fromkeys(("utilization", "memory_used", "temperature", "power"), "N/A: not supported")
    told = [STARTED, PLAN, events.Host(16, 8, [], 5.0, 1), events.Gpu(0, "N/A: no name", absent)]
    run, curves = run_of(iter(told))
    assert "-/- GB" in plain(run_view.draw(RunView(run, curves, []), 120, 39))


def test_each_of_many_gpus_has_a_line() -> None:
    eight = [events.Gpu(index, f"card {index}", {"utilization": "50"}) for index in range(8)]
    run, curves = run_of(iter([STARTED, PLAN, events.Host(16, 8, [1] * 8, 5.0, 1), *eight]))
    shown = plain(run_view.draw(RunView(run, curves, []), 120, 39))
    assert all(f"GPU {index}     50 %" in shown for index in range(8))


def test_memory_shows_the_trend_and_each_ranks_share() -> None:
    told = [events.Host(16_000_000_000, 16_000_000_000 - n * 10**9, [4_000_000_000], 5.0, 1) for n in range(1, 9)]
    run, curves = run_of(iter([STARTED, PLAN, *told]))
    shown = plain(run_view.draw(RunView(run, curves, []), 120, 39))
    assert "8.0/16.0 GB ▁▁▂▂▃▃▄▄" in shown
    assert "4.00 GB  25 % ████████" in shown


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_no_figure_is_left_out_at_the_usual_sizes(width: int, height: int, lang: Lang) -> None:
    run, curves = run_of(iter([STARTED, PLAN, step(9, loss=12.3456, grad_norm=1234.5, lr=1e-5), EVAL]))
    shown = plain(run_view.draw(RunView(run, curves, [], lang=lang), width, height - 1))
    assert {"en": "pad 10 %", "zh": "填充 10 %"}[lang] in shown
    assert "12.346" in shown


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (9.4972, "9.4972"),
        (9.5453, "9.5453"),
        (9.99999, "10.000"),
        (0.6, "0.6000"),
        (123.456, "123.46"),
        (99999.6, "100000"),
    ],
)
def test_a_loss_has_all_digits_that_its_columns_hold(loss: float, shown: str) -> None:
    run, _ = run_of(iter([STARTED, PLAN, step(9, loss=loss)]))
    figures = "".join(text for text, _ in chart_panel.figures(run.state, "en", 80))
    assert f"train {shown} " in figures
    assert figures.index("eval") == len("train 123456 ")


@pytest.mark.parametrize(("by", "window"), [(0.5, 50), (2.0, 0)])
def test_zooming_halves_and_doubles_what_is_shown(by: float, window: int) -> None:
    assert Selection().zoomed(by, 100).window == window


def test_panning_stays_within_the_run() -> None:
    look = Selection(window=40)
    for _ in range(20):
        look = look.panned(1, 100)
    assert look.back == 60
    for _ in range(20):
        look = look.panned(-1, 100)
    assert look.back == 0
    assert Selection().panned(1, 100) == Selection()


def test_zooming_ends_at_the_resolution_of_the_curve() -> None:
    look = Selection()
    for _ in range(30):
        look = look.zoomed(0.5, 1_000_000, grain=512)
    assert look.window == 16 * 512


def test_a_scrolled_back_log_does_not_jump() -> None:
    run, curves = run_of(story())
    log = [LogLine("00:00:00", "note", f"line {n}") for n in range(60)]
    back = Selection(page="log", log_back=20)
    before = plain(run_view.draw(RunView(run, curves, log, back), 80, 23))
    more = [*log, *(LogLine("00:00:01", "note", f"line {n}") for n in range(60, 67))]
    after = plain(run_view.draw(RunView(run, curves, more, back.kept(7, 0)), 80, 23))
    assert before.replace("20 back", "27 back") == after
    assert Selection().kept(7, 7) == Selection()
    assert Selection(window=40, back=10).kept(0, 5).back == 15
    assert Selection(window=40).kept(0, 5).back == 0


def test_a_full_screen_log_shows_long_lines_whole() -> None:
    run, curves = run_of(story())
    log = [LogLine("00:00:00", "error", "为什么 " * 40 + "the-end"), LogLine("00:00:01", "note", "next")]
    assert "the-end" in plain(run_view.draw(RunView(run, curves, log, Selection(page="log")), 120, 39))
    assert "the-end" not in plain(run_view.draw(RunView(run, curves, log, Selection()), 120, 39))


def test_full_screen_samples_can_be_paged_to_the_last() -> None:
    view = run_screen(page="samples")
    first = plain(run_view.draw(view, 80, 23))
    assert "1/2" in first
    last = dataclasses.replace(view, selection=samples_panel.scroll(view, 10))
    assert "2/2" in plain(run_view.draw(last, 80, 23))
    assert samples_panel.scroll(last, -10).sample == 0


@pytest.mark.parametrize(
    ("step", "total", "last"), [(1, 939, 64), (65, 939, 128), (600, 939, 939), (10, 20, 20), (9, 0, 64)]
)
def test_the_axis_of_a_growing_run_rarely_changes(step: int, total: int, last: int) -> None:
    assert chart_panel.edge(step, total) == last


@pytest.mark.parametrize(("width", "height"), [*SIZES, (60, 20)])
def test_differences_between_runs_are_marked_and_come_first(width: int, height: int) -> None:
    shown = plain(runs_view.draw(runs_screen(marked=True), width, height - 1))
    (line,) = [line for line in shown.splitlines() if "! learn_rate" in line]
    assert "5e-05" in line
    assert "3e-05" in line
    assert "! train_file" not in shown
    assert "train_file" not in shown[: shown.index("! learn_rate")]


def test_paths_that_differ_at_their_end_show_the_end() -> None:
    view = runs_screen(marked=True)
    for run, model in zip(view.runs, ("one", "two"), strict=True):
        run.record.config["pretrained_model"] = f"model_save/a-long-way/to-the-model/{model}"
    (line,) = [line for line in plain(runs_view.draw(view, 80, 23)).splitlines() if "! pretrained_model" in line]
    assert "/one " in line
    assert "/two " in line


@pytest.mark.parametrize("ascii_only", [False, True])
def test_compared_curves_can_be_told_apart_without_colours(ascii_only: bool) -> None:
    view = dataclasses.replace(runs_screen(marked=True), ink=Ink("none", ascii_only))
    shown = plain(runs_view.draw(view, 120, 39))
    assert " 1 sft-small-3 " in shown
    assert "▸2 sft-small-2 " in shown
    assert re.search("[⠀-⣿2]2?1|2{9}", shown)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_selected_run_shows_its_end_and_folder(width: int, height: int) -> None:
    shown = plain(runs_view.draw(runs_screen(), width, height - 1))
    assert "the weights were not updated" in " ".join(shown.replace("│", " ").split())
    assert "/srv/train/logs/sft-small-2" in shown


def test_errors_come_first_with_their_key() -> None:
    shown = plain(launch_view.draw(launch_screen(), 120, 39))
    assert shown.index("✗ pretrained model") < shown.index("! training file") < shown.index("✓ memory")
    assert "f sft-tui run pretrain" in shown


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_length_histogram_marks_the_cut(width: int, height: int, lang: Lang) -> None:
    shown = plain(launch_view.draw(launch_screen(lang), width, height - 1))
    whole, halved = "▂▃▆██▅▃▂▂▂▁▁▏▁▁▁▁▁▁▁▁▁▁▁▁ ", "▃██▃▂▁▏▁▁▁▁▁▁ "  # the longest are shown at any width
    assert (whole if width >= 120 else halved) in shown
    assert "939" in shown


def test_nothing_is_truncated_if_it_fits() -> None:
    shown = plain(launch_view.draw(launch_screen(), 120, 39)).split("Settings")[0]
    assert "44.80 GB are free" in shown
    assert "The run cannot begin without it." in shown
    assert "small GPUs, or none" in shown


def test_truncated_text_is_marked() -> None:
    shown = plain(launch_view.draw(launch_screen(), 80, 23))
    assert "Peak of 3.10 GB of 13.20 GB…" in shown


def test_the_demo_says_what_enter_will_do() -> None:
    view = dataclasses.replace(launch_screen(report=None, values={}), preset="demo")
    assert "enter writes data and tokenizer" in plain(launch_view.draw(view, 80, 23))


@pytest.mark.parametrize(("width", "height"), [*SIZES, (60, 20)])
@pytest.mark.parametrize("panel", launch_view.PANELS)
def test_a_click_finds_its_preset_or_setting(width: int, height: int, panel: str) -> None:
    view = launch_screen(panel=panel, setting=5)
    lines = plain(launch_view.draw(view, width, height - 1)).splitlines()
    for name, found in (
        ("▸ sft-small ", ("presets", 0)),
        ("✗ pretrained model", ("findings", 0)),
        (" response_column  ", ("settings", 4)),
        (" max_seq_len  ", ("settings", 5)),
    ):
        y = next(y for y, line in enumerate(lines) if name in line.replace("▸max", " max"))
        x = lines[y].replace("▸max", " max").index(name)
        assert launch_view.item_at(view, width, height - 1, x + 2, y) == found
    assert launch_view.item_at(view, width, height - 1, 3, 1) == ("presets", -1)


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_click_finds_its_run(width: int, height: int, marked: bool) -> None:
    view = runs_screen(marked=marked)
    lines = plain(runs_view.draw(view, width, height - 1)).splitlines()
    for place, run in enumerate(view.runs):
        y = next(y for y, line in enumerate(lines) if f" {run.name} " in line and "71/100" in line)
        assert runs_view.run_at(view, width, height - 1, y) == place
    assert runs_view.run_at(view, width, height - 1, height - 2) == -1


def test_help_can_be_paged_to_its_last_line() -> None:
    shown = plain(help_view.draw("runs", "en", 80, 12, 999))
    assert "Leave the screen" in shown


def log_of(count: int) -> list[LogLine]:
    return [LogLine("09:14:07", "note", f"line {number}.", number) for number in range(1, count + 1)]


@pytest.mark.parametrize("page", ["all", "log"])
@pytest.mark.parametrize(("width", "height"), [*SIZES, (60, 20)])
def test_the_beginning_of_the_log_fills_a_page(page: str, width: int, height: int) -> None:
    view = dataclasses.replace(run_screen(page=page), log=log_of(300))
    back = run_view.most_back(view, width, height - 1)
    assert back is not None
    first = dataclasses.replace(view, selection=dataclasses.replace(view.selection, log_back=back))
    shown = plain(run_view.draw(first, width, height - 1))
    (rows,) = [area.inside[1] for area in run_view.areas_of(view, width, height - 1) if area.name == "log"]
    assert [number for number in range(1, 301) if f"line {number}." in shown] == list(range(1, rows + 1))
    one_less = dataclasses.replace(view, selection=dataclasses.replace(view.selection, log_back=back - 1))
    assert "line 1." not in plain(run_view.draw(one_less, width, height - 1))


def test_lines_left_out_of_the_log_are_marked() -> None:
    steps = [LogLine("09:14:07", "step", f"{number}/100", number) for number in range(90, 100)]
    first = [LogLine("09:14:07", "step", f"{number}/100", number) for number in (1, 2)]
    earlier = Earlier(Gap(412, 3), Gap(94_120, 90), 0.34)
    view = dataclasses.replace(run_screen(page="log", level="all"), log=[*first, *steps], earlier=earlier)
    lines = [line.text for line in log_panel.shown_lines(view)]
    assert lines[:3] == ["… reading what is before, 34 %", "1/100", "2/100"]
    gaps = [
        "… 412 lines left out: see `sft-tui logs sft-small-3`",
        "… 94,120 steps left out: see `sft-tui logs sft-small-3`",
    ]
    assert sorted(lines[3:5]) == gaps
    assert lines[5] == "90/100"
    notes = dataclasses.replace(view, selection=dataclasses.replace(view.selection, level="notes"))
    assert [line.text for line in log_panel.shown_lines(notes)] == [lines[0], gaps[0]]


def test_a_search_that_finds_nothing_says_so() -> None:
    view = run_screen(page="log", search="confguration")
    assert "No line has “confguration”." in plain(run_view.draw(view, 80, 23))
    view = run_screen("zh", page="log", search="confguration")
    assert "没有含“confguration”的行。" in plain(run_view.draw(view, 80, 23))


def curve_screen(metric: str, **step_values: Any) -> RunView:
    told = [STARTED, PLAN, *(step(number, lr=1e-3 / number, **step_values) for number in range(1, 30))]
    run, curves = run_of(iter(told))
    return RunView(run, curves, [], Selection(metric=metric, page="chart"))


def test_a_run_without_padding_says_so() -> None:
    shown = plain(run_view.draw(curve_screen("padding", tokens=64, padded_tokens=64), 80, 23))
    assert "0 throughout" in shown
    assert "e-09" not in shown


def test_padding_is_between_0_and_100_percent() -> None:
    lines = plain(run_view.draw(curve_screen("padding", tokens=48, padded_tokens=64), 80, 23)).splitlines()
    assert any(line.startswith("│   100 %") for line in lines)
    assert any(line.startswith("│     0 %") for line in lines)


def test_the_learning_rate_is_one_true_curve() -> None:
    lines = chart_rows(curve_screen("lr"))
    assert not any(role == "dim" and any(char > "\u2800" for char in text) for line in lines for text, role in line)
    highest = next(number for number, line in enumerate(lines) if any(role == "chart" for _, role in line))
    assert highest == 1  # its first value is its highest: a smoothed curve lies below it


def chart_rows(view: RunView) -> list[Line]:
    return chart_panel.draw(view, 80, 20)[:-2]


@pytest.mark.parametrize(("lang", "word"), [("en", "reading"), ("zh", "读取中")])
def test_a_log_still_being_read_shows_no_state(lang: Lang, word: str) -> None:
    run, curves = run_of(story(), alive=False)
    shown = plain(run_view.draw(RunView(run, curves, [], lang=lang, reading=0.5), 120, 39)).splitlines()[0]
    assert word in shown
    assert "starting" not in shown
    assert "✓" not in shown


def test_compared_runs_and_paths_are_told_apart() -> None:
    runs, curves = zip(*(run_of(story(), name=f"sft-small-of-the-second-try-{n}") for n in (1, 2, 3)), strict=True)
    places = ("model_save/model", os.path.abspath("model_save/model"), "./model_save/model")
    for run, place in zip(runs, places, strict=True):
        run.record.config["pretrained_model"] = place
    names = frozenset(run.name for run in runs)
    view = runs_view.RunsView(list(runs), 0, names, dict(zip(names, curves, strict=True)))
    shown = plain(runs_view.draw(view, 120, 39))
    for number in (1, 2, 3):
        assert re.search(rf"{number} …\S*try-{number} ", shown), shown
    assert "! pretrained_model" not in shown


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("width", "shown"), [(60, 5), (80, 6), (92, 7), (160, 8)])
def test_a_list_of_runs_shows_only_whole_columns(lang: Lang, width: int, shown: int) -> None:
    view = runs_screen(lang)
    long = dataclasses.replace(view.runs[0], run_dir=RunDir(Path("logs") / ("sft-small-" + "long" * 12)))
    head, *rows = plain(runs_view.draw(view, width, 30)).splitlines()[1:4]
    titles = [say(f"column.{column}", lang) for column in COLUMNS]
    assert [title in head for title in titles] == [place < shown for place in range(len(titles))]
    assert "…" not in "".join([head, *rows]) or shown == 8
    longer = plain(runs_view.draw(dataclasses.replace(view, runs=[long], cursor=0), width, 30)).splitlines()[2]
    assert "71/100" in longer
