"""Turns as a prompt, and what is left out of one that is too long."""

from collections.abc import Sequence

import pytest
from transformers import PreTrainedTokenizerBase

from engine.contract.messages import InputError
from engine.data.encoding import encode
from engine.replying.dialogue import Prompt, Transcript, prompt_within, require_text


class Letters:
    """A token a character, with two that are always there."""

    def ids(self, system: str, turns: Sequence[str]) -> list[int]:
        """The characters."""
        return [0, *map(ord, system + "".join(turns)), 1]

    def shortened(self, ids: list[int], limit: int) -> list[int]:
        """The beginning."""
        return ids[:limit]


@pytest.mark.parametrize(
    ("limit", "kept", "left_out"),
    [(100, "SabcdeFG", 0), (10, "SabcdeFG", 0), (9, "ScdeFG", 2), (8, "ScdeFG", 2), (7, "SFG", 4), (5, "SFG", 4)],
)
def test_the_oldest_questions_leave_with_their_answers(limit: int, kept: str, left_out: int) -> None:
    found = prompt_within(Letters(), "S", ["a", "b", "cd", "e", "FG"], limit)
    assert found == Prompt(Letters().ids(kept, []), left_out)


def test_a_last_turn_that_does_not_fit_is_shortened_and_said_to_be() -> None:
    found = prompt_within(Letters(), "S", ["a", "b", "FG"], 3)
    assert found == Prompt([0, ord("S"), ord("F")], 2, cut=True)
    assert prompt_within(Letters(), "", ["long"], 2) == Prompt([0, ord("l")], 0, cut=True)


@pytest.mark.parametrize("turns", range(1, 22, 2))
def test_as_few_turns_leave_as_it_takes(turns: int) -> None:
    said = ["ab"] * turns
    for limit in range(4, 2 * turns + 3):
        found = prompt_within(Letters(), "", said, limit)
        left = turns - found.left_out
        assert len(found.ids) == 2 + 2 * left <= limit
        assert found.left_out == 0 or 2 + 2 * (left + 2) > limit


@pytest.mark.parametrize(
    ("system", "turns", "text"),
    [
        ("", ["你好"], "你好"),
        ("系统", ["你好"], "系统\n你好"),
        ("", ["你好", "你好！", "再见"], "Q: 你好\nA: 你好！\nQ: 再见"),
        ("系统", ["你好", "你好！", "再见"], "系统\nQ: 你好\nA: 你好！\nQ: 再见"),
    ],
)
def test_earlier_turns_have_the_form_that_an_import_gives_them(
    tokenizer: PreTrainedTokenizerBase, system: str, turns: list[str], text: str
) -> None:
    assert Transcript(tokenizer).ids(system, turns) == encode([text], tokenizer)[0]


def test_a_prompt_that_is_cut_still_ends(tokenizer: PreTrainedTokenizerBase) -> None:
    found = prompt_within(Transcript(tokenizer), "", ["长" * 500], 12)
    assert (len(found.ids), found.ids[-1], found.cut) == (12, tokenizer.eos_token_id, True)


def test_what_is_not_text_is_refused_before_the_tokenizer_sees_it() -> None:
    require_text("𠮷\0\x1b[31m", 1)
    with pytest.raises(InputError, match="Prompt 2 is not text"):
        require_text("a\udcff", 2)
