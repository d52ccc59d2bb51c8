"""Rows of conversations: every learned token stands behind exactly the ids that it would have before it in use."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.messages import InputError
from engine.data.chat.conversations import Chat, chat_of
from engine.data.chat.rows import ChatRow, Made, RowMaker
from engine.data.chat.settings import Learn, TooLong
from engine.data.chat.templates import ChatTemplate
from engine.data.shapes.account import RefusedError
from tests.engine.data.chat.kinds import IM, KINDS, Kind

LONG = 100_000
TOO_LONG: tuple[TooLong, ...] = ("drop-turns", "drop", "cut")
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


# --- conversations that are too long


def sizes(made: Made) -> list[int]:
    return [len(row.ids) for row in made.rows]


@settings(max_examples=60, deadline=None)
@given(
    messages=conversations(),
    limit=st.integers(10, 160),
    learn=st.sampled_from(["answers", "last"]),
    name=st.sampled_from(["chatml", "qwen3", "gemma", "glm"]),
)
def test_what_fits_is_learned_behind_the_latest_turns(messages: Messages, limit: int, learn: Learn, name: str) -> None:
    """Each answer once, in a row that fits, behind whole exchanges; or not at all, if its own exchange does not fit."""
    kind, chat = KINDS[name], chat_of(messages)
    maker, alone = maker_of(kind, limit, learn), maker_of(kind, LONG, "last")
    chosen = chat.answers if learn == "answers" else chat.answers[-1:]
    fitting = []
    for answer in chosen:
        start = max(exchange for exchange in chat.exchanges() if exchange <= answer)
        own = chat_of([*chat.messages[: chat.head], *chat.messages[start : answer + 1]])
        fitting += [answer] if len(alone.rows(own).rows[0].ids) <= limit else []
    if not fitting:
        with pytest.raises(RefusedError, match="conversation_too_long"):
            maker.rows(chat)
        return
    made = maker.rows(chat)
    require_faithful(kind, maker.pieces._tokenizer, chat, made, fitting)
    assert max(sizes(made)) <= limit
    assert made.too_long == len(chosen) - len(fitting)
    assert all(row.first in chat.exchanges() and row.left_out == row.first - chat.head for row in made.rows)


@pytest.mark.parametrize("learn", ["answers", "last", "all"])
@pytest.mark.parametrize("name", ["chatml", "qwen3"])
def test_a_row_as_long_as_the_limit_is_whole_and_one_token_less_is_not(name: str, learn: Learn) -> None:
    asked = {"role": "user", "content": "an he"}, {"role": "assistant", "content": "he ll an"}
    kind, chat = KINDS[name], chat_of([*asked, *asked, *asked])
    whole = maker_of(kind, LONG, learn).rows(chat)
    longest = max(sizes(whole))
    for way in TOO_LONG:
        assert maker_of(kind, longest, learn, way).rows(chat) == whole
    shorter = maker_of(kind, longest - 1, learn).rows(chat)
    assert max(sizes(shorter)) < longest
    assert shorter.rows[-1].left_out > 0
    with pytest.raises(RefusedError, match="conversation_too_long"):
        maker_of(kind, longest - 1, learn, "drop").rows(chat)


@settings(max_examples=40, deadline=None)
@given(messages=conversations(), limit=st.integers(10, 160), name=st.sampled_from(["chatml", "qwen3"]))
def test_cut_keeps_the_first_answers_and_drop_keeps_all_or_none(messages: Messages, limit: int, name: str) -> None:
    kind, chat = KINDS[name], chat_of(messages)
    whole = maker_of(kind).rows(chat)
    if max(sizes(whole)) <= limit:
        assert [maker_of(kind, limit, too_long=way).rows(chat).rows for way in ("cut", "drop")] == [whole.rows] * 2
        return
    with pytest.raises(RefusedError, match="conversation_too_long"):
        maker_of(kind, limit, too_long="drop").rows(chat)
    ends = [end for _, _, end in spans(whole)]
    fitting = next((number for number, end in enumerate(ends) if end > limit), len(ends))
    if fitting:
        made = maker_of(kind, limit, too_long="cut").rows(chat)
        require_faithful(kind, kind.tokenizer(), chat, made, chat.answers[:fitting])
        assert made.too_long == len(chat.answers) - fitting
    else:
        with pytest.raises(RefusedError, match="conversation_too_long"):
            maker_of(kind, limit, too_long="cut").rows(chat)


def test_a_row_after_others_leaves_room_for_the_answers_that_follow() -> None:
    turns = [
        {"role": role, "content": f"{role} {at} " + "x" * 20} for at in range(20) for role in ("user", "assistant")
    ]
    chat, kind = chat_of([{"role": "system", "content": "S"}, *turns]), KINDS["chatml"]
    limit = 600
    made = maker_of(kind, limit).rows(chat)
    require_faithful(kind, kind.tokenizer(), chat, made, chat.answers)
    assert all(row.spans[0][1] <= limit // 2 for row in made.rows[1:-1])
    assert len(made.rows) < len(chat.answers) / 2
    last = maker_of(kind, limit, learn="last").rows(chat).rows
    assert [len(row.spans) for row in last] == [1]
    assert last[0].left_out < made.rows[-1].first + limit  # nothing follows: it has all that fits
    assert limit - len(last[0].ids) < limit // 2


@settings(max_examples=40, deadline=None)
@given(messages=conversations(), limit=st.integers(30, 400), name=st.sampled_from(["chatml", "qwen3", "llama3"]))
def test_all_learns_every_token_but_the_first(messages: Messages, limit: int, name: str) -> None:
    kind, chat = KINDS[name], chat_of(messages)
    shortest = maker_of(kind, LONG, "last").rows(chat_of(list(chat.messages[: chat.answers[0] + 1])))
    limit = max(limit, *sizes(shortest))  # so that at least the first answer fits
    made, tokenizer = maker_of(kind, limit, "all").rows(chat), kind.tokenizer()
    assert max(sizes(made)) <= limit
    for row in made.rows:
        (first, asked), (again, end) = row.spans
        assert (first, again, end) == (1, asked, len(row.ids))
        history = [*chat.messages[: chat.head], *chat.messages[row.first : row.answer]]
        assert row.ids[:asked] == in_use(kind, tokenizer, history)
    firsts = [row.first for row in made.rows]
    assert firsts == sorted(set(firsts))
    assert all(one.answer < other.first for one, other in zip(made.rows, made.rows[1:], strict=False))


# --- what else a conversation may have


def test_calls_of_tools_and_what_they_return_are_rendered() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    asked = {"role": "assistant", "content": "", "tool_calls": [call]}
    messages = [TALK[0], asked, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "Two."}]
    kind, chat = KINDS["qwen2.5"], chat_of(messages, [{"type": "function", "function": {"name": "add"}}])
    maker = maker_of(kind)
    made = maker.rows(chat)
    require_faithful(kind, maker.pieces._tokenizer, chat, made, (1, 3))
    text = kind.tokenizer().decode(made.rows[0].ids)
    assert '# Tools\n{"type": "function", "function": {"name": "add"}}' in text
    assert "<tool_response>\n2\n</tool_response>" in text
    first = made.rows[0].spans[0]
    assert '{"name": "add", "arguments": {"a": 1}}' in kind.tokenizer().decode(made.rows[0].ids[slice(*first)])


@pytest.mark.parametrize("name", ["chatml", "qwen2.5"])
def test_an_answer_that_only_calls_tools_is_never_learned_as_an_empty_one(name: str) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    asked = {"role": "assistant", "content": "", "tool_calls": [call]}
    chat, maker = chat_of([TALK[0], asked, {"role": "tool", "content": "2"}, TALK[1]]), maker_of(KINDS[name])
    if name == "qwen2.5":
        assert len(maker.rows(chat).rows[0].spans) == 2
        return
    with pytest.raises(RefusedError, match="answer_unwritten"):
        maker.rows(chat)


def test_thoughts_are_learned_and_are_not_in_later_histories() -> None:
    thinking = [one | ({"reasoning_content": "Hm"} if one["role"] == "assistant" else {}) for one in TALK]
    kind, chat = KINDS["qwen3"], chat_of(thinking)
    made = maker_of(kind).rows(chat)
    texts = [kind.tokenizer().decode(row.ids) for row in made.rows]
    assert [text.count("<think>\nHm\n</think>") for text in texts] == [1, 1]
    assert "A model.<|im_end|>" in texts[1]


def test_an_answer_marked_as_not_to_be_learned_is_only_context() -> None:
    kind, chat = KINDS["chatml"], chat_of([TALK[0], TALK[1] | {"weight": 0}, *TALK[2:]])
    (row,) = maker_of(kind).rows(chat).rows
    assert kind.tokenizer().decode(row.ids[slice(*row.spans[0])]) == "Yours.<|im_end|>"
    assert len(row.spans) == 1
    assert "A model." in kind.tokenizer().decode(row.ids)


def test_an_answer_that_itself_names_a_stop_token_ends_there() -> None:
    """As the model would in use; what is behind it is context of later answers."""
    kind, chat = KINDS["chatml"], chat_of([TALK[0], {"role": "assistant", "content": "A<|im_end|>B"}, *TALK[2:]])
    (row,) = maker_of(kind).rows(chat).rows
    assert [kind.tokenizer().decode(row.ids[slice(*span)]) for span in row.spans] == ["A<|im_end|>", "Yours.<|im_end|>"]


def test_a_template_that_leaves_out_what_is_said_is_refused() -> None:
    parts = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{{ eos_token }}{% endfor %}"
    with pytest.raises(InputError) as refused:
        maker_of(Kind(parts, "</s>"))
    assert refused.value.message.code == "chat_template_bad"


def test_a_prompt_whose_tokens_an_answer_would_change_keeps_them() -> None:
    """A line end and an x are one token, if nothing keeps the end of the prompt and the answer apart."""
    kind = KINDS["chatml"]
    tokenizer = kind.tokenizer(words="")
    maker = RowMaker(ChatTemplate(tokenizer, "a model", None), (), LONG, "answers", "drop-turns")
    chat = chat_of([TALK[0], TALK[1] | {"content": "xx"}])
    (row,) = maker.rows(chat).rows
    start, end = row.spans[0]
    assert row.ids[:start] == in_use(kind, tokenizer, chat.messages[:1])
    assert tokenizer.decode(row.ids[start:end]) == "xx<|im_end|>"
    whole = tokenizer.apply_chat_template(list(chat.messages), return_dict=False)
    assert row.ids != whole[: len(row.ids)]
