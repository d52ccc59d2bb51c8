"""The log as it is shown: folded samples and steps, and notes in place of what is not held."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sft_tui import log_fold
from sft_tui.log_fold import FOLD, GAP, KEPT_STEPS, LONGEST_STRETCH, NEWEST_STEPS, folded, joined, with_gaps
from sft_tui.log_lines import Earlier, Gap, LogLine


def steps(first: int, last: int) -> list[LogLine]:
    return [LogLine("09:14:07", "step", f"{number}/1000  2.3140", number) for number in range(first, last + 1)]


def samples(first: int, count: int, score: str = "BLEU 0.33") -> list[LogLine]:
    return [
        LogLine("09:14:08", "data", f"part {number} of a sample", first + number, number % 3 + 1, score)
        for number in range(3 * count)
    ]


NOTE = LogLine("09:14:09", "note", "checkpoint saved", 500)


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_samples_of_an_evaluation_are_one_line_with_their_score() -> None:
    shown = folded([*samples(0, 3), NOTE], "", frozenset(), "en")
    assert texts(shown) == ["… 3 samples, BLEU 0.33 (tab: samples, space: show)", "checkpoint saved"]
    assert texts(folded(samples(0, 1, ""), "", frozenset(), "zh")) == ["… 1 条样例（tab：样例，空格：展开）"]


def test_a_long_stretch_of_steps_keeps_its_end() -> None:
    shown = folded([*steps(1, 415), NOTE, *steps(501, 505)], "", frozenset(), "en")
    assert texts(shown)[0] == "… 412 steps (space: show)"
    assert [line.number for line in shown] == [1, *range(416 - KEPT_STEPS, 416), 500, *range(501, 506)]
    newest = folded(steps(1, 400), "", frozenset(), "en")
    assert [line.number for line in newest] == [1, *range(401 - NEWEST_STEPS, 401)]


def test_a_short_stretch_of_steps_is_not_folded() -> None:
    lines = [*steps(1, LONGEST_STRETCH), NOTE]
    assert folded(lines, "", frozenset(), "en") == lines


def test_an_unfolded_stretch_is_whole() -> None:
    lines = [*steps(1, 400), NOTE]
    assert folded(lines, "", frozenset({1}), "en") == lines


def test_a_hit_is_never_folded() -> None:
    lines = [*steps(1, 300), NOTE, *samples(600, 3)]
    shown = folded(lines, "200/1000", frozenset(), "en")
    assert [line.level for line in shown if line.number == 200] == ["step"]
    assert any(line.level == "data" for line in folded(lines, "PART 4", frozenset(), "en"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["step", "note", "sample", "warning"]), max_size=80), st.integers(0, 79))
def test_a_fold_loses_no_line_and_keeps_the_order(kinds: list[str], unfolded: int) -> None:
    lines = [
        LogLine("", "data", "x", n, 1) if kind == "sample" else LogLine("", kind, "x", n)
        for n, kind in enumerate(kinds)
    ]
    shown = folded(lines, "", frozenset({unfolded}), "en")
    numbers = [line.number for line in shown]
    assert numbers == sorted(set(numbers))
    assert [line for line in shown if line.level != FOLD] == [line for line in lines if line in shown]
    assert {line.number for line in lines if line.level in ("note", "warning")} <= set(numbers)


def test_found_lines_stand_between_those_held_once() -> None:
    held = [*steps(1, 2), *steps(90, 91)]
    assert joined(held, []) is held
    assert [line.number for line in joined(held, [*steps(2, 2), *steps(50, 51)])] == [1, 2, 50, 51, 90, 91]


def test_gaps_are_named_where_they_are() -> None:
    earlier = Earlier(Gap(412, 3), Gap(94_120, 90), 0.34, Gap(6, 91), Gap(2, 92))
    assert not earlier.is_whole
    assert Earlier().is_whole
    lines = [*steps(1, 2), *steps(90, 92)]
    shown = with_gaps(lines, earlier, "all", "one", "en")
    assert [line.level for line in shown] == [GAP, "step", "step", GAP, GAP, "step", GAP, "step", GAP, "step"]
    assert "412 lines" in shown[3].text
    assert "94,120 steps" in shown[4].text
    assert len(with_gaps([], earlier, "warnings", "one", "en")) == 2


def test_a_line_that_stands_for_others_is_no_hit() -> None:
    assert log_fold.has(NOTE, "CHECK")
    assert not log_fold.has(NOTE._replace(level=FOLD), "check")
    assert not log_fold.has(NOTE, "")
