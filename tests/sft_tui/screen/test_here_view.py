"""The first screen as text."""

import pytest
from hypothesis import given, settings

from engine.contract.glances import DataGlance
from engine.contract.texts import Lang
from sft_tui.found import DataFile, Found
from sft_tui.next_steps import next_steps
from sft_tui.screen import here_view
from sft_tui.screen.here_view import HereView
from tests.sft_tui.screen.conftest import HEIGHTS, SIZES, WIDTHS, exact, plain, same_as_kept
from tests.sft_tui.test_here_text import EVERYTHING

FOUND = {"everything": EVERYTHING, "nothing": Found(), "reading": Found(reading=True)}


def view(name: str = "everything", lang: Lang = "en", **more: object) -> HereView:
    found = FOUND[name]
    values = {"machine": "12.00 GB of memory free · 44.00 GB of disk free", **more}
    return HereView("~/train", found, tuple(next_steps(found)), lang=lang, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", ["everything", "nothing"])
def test_the_first_screen_matches_its_snapshot(name: str, lang: Lang, size: tuple[int, int]) -> None:
    width, height = size[0], size[1] - 1
    lines = here_view.draw(view(name, lang), width, height)
    exact(lines, width, height)
    same_as_kept(f"here-{name}-{lang}-{size[0]}x{size[1]}", lines)


@pytest.mark.parametrize("name", FOUND)
@settings(max_examples=25, deadline=None)
@given(width=WIDTHS, height=HEIGHTS)
def test_the_first_screen_can_have_any_size(name: str, width: int, height: int) -> None:
    exact(here_view.draw(view(name, "zh", cursor=3), width, height), width, height)


@pytest.mark.parametrize("size", [(120, 39), (80, 23), (60, 19)])
def test_the_step_under_the_cursor_is_shown_and_found_by_the_mouse(size: tuple[int, int]) -> None:
    shown = view(cursor=5)
    rows = plain(here_view.draw(shown, *size)).splitlines()
    y = next(number for number, row in enumerate(rows) if "▸ 6" in row)
    assert here_view.step_at(shown, *size, rows[y].index("▸"), y) == 5
    assert here_view.step_at(shown, *size, size[0] - 2, 0) == -1


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", FOUND)
def test_a_gpu_that_no_run_can_use_is_there_and_said_to_be(name: str, size: tuple[int, int]) -> None:
    width, height = size[0], size[1] - 1
    lines = here_view.draw(view(name, unusable="AMD"), width, height)
    exact(lines, width, height)
    assert "GPU     AMD, not usable by this PyTorch" in plain(lines)


def test_a_waiting_step_says_so() -> None:
    assert "as soon as this is read" in plain(here_view.draw(view("reading", queued=True), 120, 39))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_list_of_a_wide_screen_is_cut_nowhere(lang: Lang) -> None:
    names = [f"data/chat_{part}.parquet" for part in ("test", "train", "valid")]
    about = DataGlance("parquet", 168, True, form="messages", shape="messages", script="Latin")
    found = Found(data=tuple(DataFile(name, 1, 1, about) for name in names))
    shown = here_view.draw(HereView("~/train", found, tuple(next_steps(found)), lang=lang), 120, 39)
    listed = [line[: line.index("││")] for line in plain(shown).splitlines() if "││" in line]
    assert sum(("English etc." if lang == "en" else "英文等") in line for line in listed) == len(names)
    exact(shown, 120, 39)
