"""A blind comparison as lines."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sft_tui.judging import Comparison, Trial
from sft_tui.screen import blind_view
from sft_tui.screen.blind_view import BlindView
from tests.sft_tui.screen.conftest import HEIGHTS, WIDTHS, exact, plain
from tests.sft_tui.screen.test_chat_view import TEXTS

TRIALS = st.builds(
    Trial,
    TEXTS,
    st.booleans(),
    st.just(()) | st.tuples(TEXTS, TEXTS),
    st.sampled_from(["", "first", "second", "equal"]),
)
COMPARISONS = st.builds(
    Comparison, st.just(("base", "tuned\x1b[2J")), st.lists(TRIALS, min_size=1, max_size=3).map(tuple)
)
TWO = Comparison(
    ("base", "tuned"),
    (Trial("路由器不亮怎么办？", True, ("of base", "of tuned")), Trial("second?", False)),
    files=("data/test.parquet", "data/valid\x1b.parquet"),
    trained=4,
    compared=True,
)


def text(view: BlindView, width: int = 80, height: int = 24) -> str:
    """What is shown, as text."""
    return plain(blind_view.draw(view, width, height))


@settings(max_examples=25, deadline=None)
@given(
    st.none() | COMPARISONS, st.integers(0, 3), st.integers(0, 99), TEXTS, TEXTS, WIDTHS, HEIGHTS,
    st.sampled_from(["en", "zh"]),
)  # fmt: skip
def test_any_comparison_has_the_size_of_the_screen(
    found: Comparison | None, place: int, top: int, doing: str, fault: str, width: int, height: int, lang: str
) -> None:
    lines = blind_view.draw(BlindView(found, place, top, doing, fault, lang), width, height)  # type: ignore[arg-type]
    exact(lines, width, height)
    assert "\x1b" not in plain(lines)


def test_replies_are_shown_without_names_and_in_the_order_of_the_trial() -> None:
    shown = text(BlindView(TWO))
    assert "base" not in shown.replace("of base", "")
    assert "1 of 2" in shown
    assert "路由器不亮怎么办？" in shown
    line = next(line for line in shown.splitlines() if "of base" in line)
    assert line.index("of tuned") < line.index("of base")
    source = " ".join(shown.split())
    assert "prompts of data/test.parquet, data/valid␛.parquet, without 4 that the training file has too" in source


def test_a_judged_reply_is_marked_when_one_returns_to_it() -> None:
    judged = TWO.changed(0, replace(TWO.trials[0], preferred="second"))
    top = next(line for line in text(BlindView(judged)).splitlines() if "A" in line and "B" in line)
    assert top.index("preferred") < top.index("B")


def test_replies_that_are_awaited_are_dots() -> None:
    assert text(BlindView(TWO, 1)).count("…") == 2


def test_the_tally_has_the_names() -> None:
    shown = text(BlindView(TWO, 2))
    assert "base preferred: 0" in shown
    assert "tuned preferred: 0" in shown


def test_long_replies_scroll_together() -> None:
    long = "\n".join(f"line {at}" for at in range(60))
    found = TWO.changed(0, replace(TWO.trials[0], replies=(long, long)))
    assert text(BlindView(found, 0, 40)).count("line 45") == 2
    assert text(BlindView(found, 0, 999)).count("line 59") == 2
