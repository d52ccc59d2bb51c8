"""Turns as a prompt, and what is left out of one that is too long."""

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from engine.contract.messages import InputError
from engine.data.chat.settings import ChatSettings
from engine.data.encoding import encode
from engine.replying.dialogue import Prompt, Rendered, Transcript, prompt_within, require_text
from tests.engine.data.chat.kinds import KINDS


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


# --- by a chat template


def rendered(name: str) -> tuple[Rendered, Any]:
    """The dialogue of a kind of templates, and its tokenizer."""
    kind = KINDS[name]
    template = kind.template()
    stops = tuple(template.tokenizer.get_vocab()[stop] for stop in kind.stops)
    return Rendered(template, ChatSettings(stops=stops)), template.tokenizer


@pytest.mark.parametrize("turns", [["one"], ["one", "two", "three"], ["a", "b\n", "c", " d", "é你"]])
@pytest.mark.parametrize("name", KINDS)
def test_a_prompt_is_what_an_answer_has_before_it_in_training(name: str, turns: list[str]) -> None:
    dialogue, tokenizer = rendered(name)
    for system in ("", "Be terse."):
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(turns)]
        kind = KINDS[name]
        expected = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False, **kind.options
        )
        assert dialogue.ids(system, turns) == expected


def test_what_ends_an_answer_in_training_ends_a_reply() -> None:
    dialogue, tokenizer = rendered("qwen2.5")
    assert tokenizer.get_vocab()["<|im_end|>"] in dialogue.stops


def test_a_turn_that_a_template_refuses_is_refused_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    dialogue, _ = rendered("gemma")
    monkeypatch.setattr(dialogue._template, "text", "{{ raise_exception('not today\x1b[31m') }}")
    with pytest.raises(InputError, match="not today") as refused:
        dialogue.ids("", ["hello"])
    assert "\x1b" not in refused.value.message.what()


def test_a_chat_prompt_is_never_cut() -> None:
    dialogue, _ = rendered("qwen2.5")
    with pytest.raises(InputError, match="the model can see 20"):
        prompt_within(dialogue, "", ["a", "b", "long " * 50], 20)
