"""Which rows made a step's loss."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.messages import InputError
from engine.contract.row_losses import RowLoss, StepRows
from engine.contract.weighed import RowBeginning
from sft_tui import step_rows
from sft_tui.text import width

LOSSES = st.floats(0, 1e6) | st.just(math.nan) | st.just(math.inf)
TEXTS = st.text(max_size=80)


def step(number: int, losses: list[float], tokens: int = 10, *, spike: bool = False) -> StepRows:
    rows = tuple(RowLoss(100 + place, place, tokens, loss) for place, loss in enumerate(losses))
    whole = len(losses) * tokens
    return StepRows(number, 1, sum(losses) / max(1, whole), whole, spike=spike, count=len(rows), rows=rows)


def test_rows_are_listed_by_share_and_one_far_above_is_an_outlier() -> None:
    found = step_rows.shared([step(3, [20.0, 21.0, 19.0, 120.0, 20.0])])
    assert [one.row.row for one in found] == [103, 101, 100, 104, 102]
    assert [one.outlier for one in found] == [True, False, False, False, False]
    assert found[0].share == pytest.approx(0.6)
    assert sum(one.share for one in found) == pytest.approx(1)


def test_equal_rows_have_no_outlier() -> None:
    assert not any(one.outlier for one in step_rows.shared([step(1, [5.0] * 8)]))


def test_rows_of_several_steps_share_the_loss_of_all() -> None:
    found = step_rows.shared([step(3, [30.0, 10.0]), step(4, [60.0])])
    assert [(one.step, one.share) for one in found] == [(4, 0.6), (3, 0.3), (3, 0.1)]


@settings(max_examples=25)
@given(st.lists(st.lists(LOSSES, max_size=5), max_size=3))
def test_any_losses_have_shares(losses: list[list[float]]) -> None:
    found = step_rows.shared([step(number, its) for number, its in enumerate(losses, 1)])
    assert len(found) == sum(map(len, losses))
    for one in found:
        assert math.isnan(one.share) or 0 <= one.share <= 1
        assert one.outlier or math.isfinite(one.row.loss)


def test_the_steps_that_are_kept_are_named() -> None:
    kept = [step(number, [1.0]) for number in (3, 17, 801, 802, 803)]
    assert step_rows.ranges(kept) == "3, 17, 801-803"
    assert [one.step for one in step_rows.require_kept("r", kept, 0)] == [803]
    assert [one.step for one in step_rows.require_kept("r", kept, 10, 801)] == [17, 801]
    with pytest.raises(InputError, match="3, 17, 801-803"):
        step_rows.require_kept("r", kept, 400)
    with pytest.raises(InputError, match="kept no losses"):
        step_rows.require_kept("r", [], 400)
    many = [step(number, [1.0]) for number in range(1, 40, 2)]
    assert step_rows.ranges(many).startswith("…, ")


def test_the_next_step_and_the_next_spike() -> None:
    kept = [step(number, [1.0], spike=number in (2, 9)) for number in (2, 5, 9)]
    assert step_rows.neighbour(kept, 5, 1) == 9
    assert step_rows.neighbour(kept, 5, -1) == 2
    assert step_rows.neighbour(kept, 9, 1) == 9
    assert step_rows.neighbour(kept, 2, 1, spikes=True) == 9
    assert step_rows.neighbour(kept, 0, 1, spikes=True) == 2


@settings(max_examples=25)
@given(st.lists(LOSSES, max_size=6), TEXTS, TEXTS, st.integers(20, 200))
def test_the_table_fits_the_terminal(losses: list[float], given_text: str, learned: str, columns: int) -> None:
    rows = step_rows.shared([step(1, losses)])
    begun = {0: RowBeginning(0, given_text, learned), 1: RowBeginning(1, changed=True)}
    lines = list(step_rows.table(rows, begun, columns, "zh"))
    assert len(lines) == 1 + len(losses)
    assert all(width(line) <= columns and "\n" not in line for line in lines)


def test_a_row_is_shown_by_what_is_learned_of_it() -> None:
    assert step_rows.beginning(RowBeginning(1, "Q: hi\n\n", " there"), "en") == "Q: hi → there"
    long = step_rows.beginning(RowBeginning(1, "how " + "who " * 20, "I am."), "en")
    assert long.startswith("…")
    assert long.endswith("who → I am.")
    assert "another row" in step_rows.beginning(RowBeginning(1, changed=True), "en")
    assert step_rows.beginning(None, "en") == ""


@pytest.mark.parametrize(
    "template",
    [
        "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        "<|system|>\nYou help.<|end|>\n<|user|>\n{}<|end|>\n<|assistant|>\n",
    ],
)
def test_of_a_conversation_its_last_question_is_shown(template: str) -> None:
    begun = RowBeginning(1, template.format("Who are you?"), "I am.<|im_end|>")
    assert step_rows.beginning(begun, "en") == "Who are you? → I am."
    long = step_rows.beginning(RowBeginning(1, template.format("How " + "who " * 20), "I am."), "en")
    assert long.startswith("How who")
    assert long.endswith("… → I am.")


@pytest.mark.parametrize("begun", ["rt|>", "m_start|>", "|>", "<|im_start|>"])
@pytest.mark.parametrize("cut", ["", "<|im_end|>", "<|im_", "<|", "<"])
def test_no_part_of_a_marker_is_shown(begun: str, cut: str) -> None:
    given, learned = f"{begun}user\nWhen will 1 < 2|3 rain?{cut}", f"{begun}Soon.{cut}"
    shown = step_rows.beginning(RowBeginning(1, given, learned), "en")
    assert shown == "When will 1 < 2|3 rain? → Soon."


def test_the_heading_marks_a_spike_without_colours() -> None:
    assert "(!)" in step_rows.heading([step(3, [1.0], spike=True)], "en")
    assert "(!)" not in step_rows.heading([step(3, [1.0])], "en")
    assert "3 to 5" in step_rows.heading([step(3, [1.0]), step(5, [1.0])], "en")
