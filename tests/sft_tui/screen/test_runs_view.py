"""The list of runs, and runs compared."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui.listing import COLUMNS
from sft_tui.screen import runs_view
from sft_tui.screen.ink import Ink
from tests.sft_tui.screen.conftest import (
    SIZES,
    plain,
    run_of,
    runs_screen,
    story,
)


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
def test_compared_curves_differ_without_colours(ascii_only: bool) -> None:
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


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_click_finds_its_run(width: int, height: int, marked: bool) -> None:
    view = runs_screen(marked=marked)
    lines = plain(runs_view.draw(view, width, height - 1)).splitlines()
    for place, run in enumerate(view.runs):
        y = next(y for y, line in enumerate(lines) if f" {run.name} " in line and "71/100" in line)
        assert runs_view.run_at(view, width, height - 1, y) == place
    assert runs_view.run_at(view, width, height - 1, height - 2) == -1


def test_compared_runs_and_paths_are_distinguished() -> None:
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
