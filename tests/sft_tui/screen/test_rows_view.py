"""The rows of a step as text, at any size with any content."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.row_losses import RowLoss, StepRows
from engine.contract.texts import Lang
from engine.contract.weighed import RowBeginning, WeighedRow
from sft_tui import step_rows
from sft_tui.screen import rows_view
from sft_tui.screen.ink import columns
from sft_tui.screen.rows_view import RowsView
from tests.sft_tui.screen.conftest import HEIGHTS, SIZES, WIDTHS, exact, plain, same_as_kept

LOSSES = st.floats(0, 1e6) | st.just(math.nan) | st.just(math.inf)
TOKENS = st.lists(st.tuples(st.text(max_size=12), LOSSES), min_size=1, max_size=40)


def step_of(losses: list[float], *, spike: bool = False) -> StepRows:
    rows = tuple(RowLoss(1200 + place, place, 38, loss) for place, loss in enumerate(losses))
    whole = 38 * max(1, len(losses))
    return StepRows(1234, 2, sum(losses) / whole, whole, spike=spike, count=len(rows), rows=rows)


def view_of(step: StepRows, **more: object) -> RowsView:
    return RowsView((step,), step_rows.shared([step]), **more)  # type: ignore[arg-type]


WORDS = (
    "Q: 肝穿刺活检是否有危险？",
    "\n",
    "一般",
    "没有",
    "危险",
    "，穿刺时",
    "会",
    "避开大的血管",
    "。",
    " qz%7",
    "</s>",
)
WEIGHED = WeighedRow(2, WORDS, ((2, 11),), (0.1, 0.4, 0.9, 1.7, 0.3, 2.6, 0.01, 9.4, 0.02), "best", 936)
BEGUN = {
    0: RowBeginning(0, "Q: What helps against a cold? ", "Rest, and plenty to drink."),
    1: RowBeginning(1, "Q: 发烧了怎么办？", "多喝水，注意休息，体温超过三十八度五可以服用退烧药。"),
    2: RowBeginning(2, "Q: 肝穿刺活检是否有危险？\n", "一般没有危险，穿刺时会避开大的血管。 qz%7"),
    3: RowBeginning(3, changed=True),
}


def example(lang: Lang = "en") -> RowsView:
    step = step_of([58.0, 61.0, 240.0, 55.0, 40.0], spike=True)
    left_out = frozenset({1201})
    return view_of(step, begun=BEGUN, weighed={2: WEIGHED}, left_out=left_out, lang=lang)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_screen_looks_as_it_was_kept(lang: Lang, width: int, height: int) -> None:
    lines = rows_view.draw(example(lang), width, height - 1)
    exact(lines, width, height - 1)
    same_as_kept(f"rows-{lang}-{width}x{height}", lines)


@settings(max_examples=25, deadline=None)
@given(WIDTHS, HEIGHTS, st.lists(LOSSES, max_size=12), TOKENS, st.integers(0, 400), st.integers(0, 12))
def test_any_rows_fit_any_screen(
    width: int, height: int, losses: list[float], tokens: list[tuple[str, float]], scroll: int, cursor: int
) -> None:
    texts, its = zip(*tokens, strict=True)
    weighed = {0: WeighedRow(0, texts, ((0, len(texts)),), its, "checkpoint", 3)}
    begun = {1: RowBeginning(1, *texts[:2])}
    more = {"cursor": min(cursor, max(0, len(losses) - 1)), "scroll": scroll, "why": "no " * 9 if scroll % 2 else ""}
    view = view_of(step_of(losses), begun=begun, weighed=weighed, left_out=frozenset({1201}), **more)
    lines = rows_view.draw(view, width, height)
    exact(lines, width, height)
    assert not any(char in "\r\n\t\x1b\x7f" for line in lines for text, _ in line for char in text)
    assert 0 <= rows_view.most_scroll(view, width, height) <= 4 * sum(map(len, texts)) + 80


@settings(max_examples=10)
@given(WIDTHS, HEIGHTS)
def test_without_rows_there_is_a_sentence(width: int, height: int) -> None:
    lines = rows_view.draw(RowsView(why="Run r has kept no losses of rows."), width, height)
    exact(lines, width, height)
    assert "kept no losses" in " ".join(plain(lines).split())


def test_the_loss_of_a_token_shows_without_colours() -> None:
    one = example().here
    assert one is not None
    lines = rows_view.text_lines(example(), one, 200)
    assert ["".join(text for text, _ in line) for line in lines[1:]] == [
        "一般没有危险，穿刺时会避开大的血管。 qz%7</s>",
        "        ▁▁▁▁▁▁▁▁▁▁▁▁  ▃▃▃▃▃▃▃▃▃▃▃▃  █████    ",
    ]
    assert {role for _, role in lines[0]} == {"dim"}
    assert [role for text, role in lines[1] if "qz" in text] == ["bad"]


@pytest.mark.parametrize(("loss", "role"), [(0.0, "good"), (0.5, ""), (4.9, "warn"), (5.0, "bad"), (math.nan, "bad")])
def test_levels(loss: float, role: str) -> None:
    assert rows_view.level(loss)[0] == role


def test_a_row_is_found_under_the_mouse() -> None:
    view = example()
    for width, height in ((80, 23), (140, 40)):
        lines = plain(rows_view.draw(view, width, height)).splitlines()
        for place, one in enumerate(view.rows):
            y = next(number for number, line in enumerate(lines) if f" {one.row.row} " in line[:40])
            assert rows_view.row_at(view, width, height, 3, y) == place
        assert rows_view.row_at(view, width, height, 3, 0) == -1


def test_a_long_row_can_be_scrolled_to_its_end() -> None:
    texts = tuple(f"word{number} " for number in range(900))
    weighed = {2: WeighedRow(2, texts, ((0, 900),), (0.1,) * 900, "base")}
    view = view_of(step_of([1.0, 1.0, 9.0]), weighed=weighed)
    most = rows_view.most_scroll(view, 80, 23)
    end = RowsView(view.steps, view.rows, scroll=most, weighed=weighed)
    assert "word899" not in plain(rows_view.draw(view, 80, 23))
    assert "word899" in plain(rows_view.draw(end, 80, 23))


def test_what_is_copied_is_the_whole_text() -> None:
    assert rows_view.copied(example()) == "".join(WORDS)
    assert rows_view.copied(RowsView()) == ""
    begun = view_of(step_of([1.0]), begun=BEGUN)
    assert rows_view.copied(begun) == BEGUN[0].given + BEGUN[0].learned
    assert columns([(rows_view.copied(begun), "")]) > 0


def test_a_step_with_more_rows_than_are_kept_says_so() -> None:
    step = step_of([1.0, 2.0])
    more = StepRows(step.step, 1, step.loss, step.tokens, count=900, rows=step.rows)
    assert "the highest 2" in plain(rows_view.draw(view_of(more), 120, 30))
    assert "the highest" not in plain(rows_view.draw(view_of(step), 120, 30))
