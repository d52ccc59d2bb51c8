"""Rows of conversations: every learned token stands behind exactly the ids that it would have before it in use."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.chat.conversations import Chat, chat_of
from engine.data.chat.rows import ChatRow, Made, RowMaker
from engine.data.chat.settings import Learn, TooLong
from engine.data.shapes.account import RefusedError
from tests.engine.data.chat.kinds import IM, KINDS, Kind

LONG = 100_000
Messages = list[dict[str, Any]]
TEXTS = st.text(st.sampled_from("an he ll:\n<>é你|[]/"), max_size=12).map(lambda text: f"x{text}")


def maker_of(kind: Kind, limit: int = LONG, learn: Learn = "answers", too_long: TooLong = "drop-turns") -> RowMaker:
    template = kind.template()
    stops = [template.tokenizer.get_vocab()[stop] for stop in kind.stops]
    return RowMaker(template, stops, limit, learn, too_long)


@pytest.fixture(scope="module")
def makers() -> dict[str, RowMaker]:
    """One for each kind, with no limit."""
    return {name: maker_of(kind) for name, kind in KINDS.items()}


@st.composite
def conversations(draw: st.DrawFn) -> Messages:
    """Turns of user and assistant, some with thoughts, after a system text or without one."""
    made: Messages = [{"role": "system", "content": draw(TEXTS)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        made.append({"role": "user", "content": draw(TEXTS)})
        answer = {"role": "assistant", "content": draw(TEXTS)}
        made.append(answer | ({"reasoning_content": draw(TEXTS)} if draw(st.booleans()) else {}))
    return made + ([{"role": "user", "content": draw(TEXTS)}] if draw(st.booleans()) else [])


def in_use(kind: Kind, tokenizer: Any, history: Sequence[dict[str, Any]], tools: Any = None) -> list[int]:
    """What the model would have before it if it were asked for its next turn."""
    made: list[int] = tokenizer.apply_chat_template(
        list(history), tools=tools, add_generation_prompt=True, return_dict=False, **kind.options
    )
    return made


def spans(made: Made) -> Iterator[tuple[ChatRow, int, int]]:
    return ((row, start, end) for row in made.rows for start, end in row.spans)


def require_faithful(kind: Kind, tokenizer: Any, chat: Chat, made: Made, answers: Sequence[int]) -> None:
    """Every learned span is one of the answers, in order, behind the ids of its history, and ends as answers do."""
    found = list(spans(made))
    assert len(found) == len(answers)
    for (row, start, end), answer in zip(found, answers, strict=True):
        history = [*chat.messages[: chat.head], *chat.messages[row.first : answer]]
        assert row.ids[:start] == in_use(kind, tokenizer, history, chat.tools and list(chat.tools))
        said = tokenizer.decode(row.ids[start:end])
        assert said.endswith(kind.stop)
        assert chat.messages[answer]["content"].strip() in said
    assert all(row.spans[-1][1] == len(row.ids) for row in made.rows)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=25, deadline=None)
@given(messages=conversations())
def test_answers_are_learned_as_they_are_given(makers: dict[str, RowMaker], name: str, messages: Messages) -> None:
    maker, kind = makers[name], KINDS[name]
    if kind.options:  # which says that answers have no thoughts
        messages = [{key: text for key, text in one.items() if key != "reasoning_content"} for one in messages]
    chat = chat_of(messages)
    made = maker.rows(chat)
    require_faithful(kind, maker.pieces._tokenizer, chat, made, chat.answers)
    if not kind.splits:
        assert len(made.rows) == 1


def masked(kind: Kind, tokenizer: Any, chat: Chat) -> Made:
    """The usual way: the whole conversation rendered once, and the texts of its answers found in it."""
    text = tokenizer.apply_chat_template(list(chat.messages), tokenize=False, **kind.options)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    found, place = [], 0
    for answer in chat.answers:
        place = text.index(chat.messages[answer]["content"], place)
        end = text.index(kind.stop, place)
        at = [number for number, (first, _) in enumerate(encoded["offset_mapping"]) if place <= first <= end]
        found.append((at[0], at[-1] + 1))
    return Made([ChatRow(encoded["input_ids"][: found[-1][1]], found, chat.answers[-1], chat.head, 0)])


TALK = [
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "A model."},
    {"role": "user", "content": "Whose?"},
    {"role": "assistant", "content": "Yours."},
]


@pytest.mark.parametrize(("name", "fits"), [("chatml", True), ("llama3", True), ("qwen3-without-thoughts", False)])
def test_masking_one_rendering_is_wrong_if_history_is_rewritten(name: str, fits: bool) -> None:
    kind, chat = KINDS[name], chat_of(TALK)
    tokenizer = kind.tokenizer()
    if fits:
        require_faithful(kind, tokenizer, chat, masked(kind, tokenizer, chat), chat.answers)
        return
    with pytest.raises(AssertionError):
        require_faithful(kind, tokenizer, chat, masked(kind, tokenizer, chat), chat.answers)
    require_faithful(kind, tokenizer, chat, maker_of(kind).rows(chat), chat.answers)


def test_a_template_that_rewrites_history_makes_a_row_of_each_answer() -> None:
    made = maker_of(KINDS["qwen3-without-thoughts"]).rows(chat_of(TALK))
    assert [len(row.spans) for row in made.rows] == [1, 1]
    assert made.rewritten == 1
    made = maker_of(KINDS["chatml"]).rows(chat_of(TALK))
    assert [len(row.spans) for row in made.rows] == [2]
    assert made.rewritten == 0


def test_a_prompt_that_its_answer_does_not_continue_is_refused() -> None:
    thinking = KINDS["chatml"].text.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
    with pytest.raises(RefusedError) as refused:
        maker_of(Kind(thinking, "<|im_end|>", IM)).rows(chat_of(TALK))
    assert refused.value.code == "template_rewrites"


def test_an_answer_that_the_template_does_not_end_is_refused() -> None:
    plain = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    with pytest.raises(RefusedError) as refused:
        maker_of(Kind(plain + "{% if add_generation_prompt %}assistant: {% endif %}", "</s>")).rows(chat_of(TALK))
    assert refused.value.code == "answer_without_stop"


def test_an_order_of_roles_is_refused_in_the_words_of_the_template() -> None:
    with pytest.raises(RefusedError) as refused:
        maker_of(KINDS["gemma"]).rows(chat_of([TALK[0], *TALK]))
    assert refused.value.code == "template_refuses"
    assert refused.value.detail == "Conversation roles must alternate user/assistant/user/assistant"
