"""Conversations in a token store: their rows, their numbers in the file, and an account that adds up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.messages import InputError
from engine.data.chat.settings import ChatSettings
from engine.data.parquet_rows import RowSource
from engine.data.token_store import TokenStore, open_store
from tests.engine.data.chat.kinds import BASE, KINDS, Kind
from tests.engine.data.chat.stuck import stuck_templates
from tests.engine.data.conftest import quiet

LONG = 10_000
U, A = "user", "assistant"


def talk(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def kind_of(kind: str | Kind) -> Kind:
    return kind if isinstance(kind, Kind) else KINDS[kind]


ONE, TWO = talk((U, "Hi"), (A, "Hello")), talk((U, "Who?"), (A, "Me"), (U, "Whose?"), (A, "Yours"))
Opener = Callable[..., TokenStore]


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """The store of some columns by a kind of template."""

    def opened_one(kind: str | Kind = "chatml", limit: int = LONG, name: str = "chats", **columns: Any) -> TokenStore:
        how = {key: columns.pop(key) for key in ("learn", "too_long", "options", "template") if key in columns}
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns), path)
        source = RowSource(path, "train_file", "prompt", "response", chat=replace(ChatSettings(), **how))
        return open_store(source, kind_of(kind).tokenizer(), limit, tmp_path / "store", quiet)

    return opened_one


def learned(store: TokenStore, kind: str | Kind = "chatml") -> list[list[str]]:
    """The learned texts of each row."""
    tokenizer = kind_of(kind).tokenizer()
    rows = [store.row(index) for index in range(len(store))]
    return [[str(tokenizer.decode(row.ids[start:end])) for start, end in row.spans] for row in rows]


def test_each_answer_is_learned_once_in_as_few_rows_as_can_be(opened: Opener) -> None:
    store = opened(messages=[ONE, TWO])
    assert learned(store) == [["Hello<|im_end|>"], ["Me<|im_end|>", "Yours<|im_end|>"]]
    assert store.rows.tolist() == [0, 1]
    assert [store.answer(index) for index in range(2)] == [1, 3]
    split = opened("qwen3-without-thoughts", messages=[ONE, TWO], options="enable_thinking=false")
    assert learned(split) == [["Hello<|im_end|>"], ["Me<|im_end|>"], ["Yours<|im_end|>"]]
    assert split.rows.tolist() == [0, 1, 1]
    assert [store.row(1).prompt.tolist()[-1:], len({*split.hashes.tolist()})] == [store.row(0).prompt.tolist()[-1:], 3]


def test_pairs_and_conversations_make_the_same_rows(opened: Opener) -> None:
    pairs = opened(name="pairs", prompt=["Hi", None, "Who?"], response=["Hello", "x", "Me"])
    chats = opened(messages=[ONE, None, TWO[:2]])
    assert learned(pairs) == learned(chats)
    assert pairs.hashes.tolist() == chats.hashes.tolist()
    assert pairs.meta["dropped"] == {"prompt_null": 1}


def test_what_only_an_import_reads_is_read_as_it_does(opened: Opener) -> None:
    """Other names of roles, and columns next to the messages."""
    others = [[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]]
    assert learned(opened(messages=others)) == [["Hello<|im_end|>"]]
    store = opened(name="next", messages=[ONE, ONE], system=["Be kind.", None])
    texts = [KINDS["chatml"].tokenizer().decode(store.row(index).ids) for index in range(2)]
    assert ["system\nBe kind.<|im_end|>" in text for text in texts] == [True, False]


@pytest.mark.parametrize("kind", [("role", "content", U, A), ("from", "value", "human", "gpt")])
def test_what_is_left_out_of_conversations_is_counted(opened: Opener, kind: tuple[str, str, str, str]) -> None:
    role, text, user, model = kind
    said = [(user, "Hi"), (model, "Hello"), (user, " "), (model, "x")]
    store = opened(messages=[[{role: who, text: what} for who, what in said[:end]] for end in (4, 2)])
    assert learned(store) == [["Hello<|im_end|>"]] * 2
    assert store.meta["noticed"] == {"turn_empty": 1}


def test_fields_that_other_rows_have_are_not_part_of_a_message(opened: Opener) -> None:
    called = {"role": A, "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}
    plain = opened("qwen2.5", name="plain", messages=[ONE])
    mixed = opened("qwen2.5", messages=[ONE, [ONE[0], called, {"role": "tool", "content": "2"}, ONE[1]]])
    assert mixed.row(0).ids.tolist() == plain.row(0).ids.tolist()
    assert learned(mixed, "qwen2.5")[1][0].endswith('{"name": "f", "arguments": {"x": 1}}\n</tool_call><|im_end|>')


def test_the_account_of_a_file_adds_up(opened: Opener) -> None:
    open_ended = [*TWO, *talk((U, "And?"))]
    store = opened(messages=[ONE, talk((U, "Hi")), talk(("owl", "Hu"), (A, "x")), open_ended, []])
    facts = store.meta["chat"]
    assert facts == {
        "conversations": 2, "answers": 3, "split": 0, "too_long": 0, "open": 1, "stops": {"<|im_end|>": 3},
        "unwritten": {},
    }  # fmt: skip
    assert store.meta["dropped"] == {"no_answer": 1, "unknown_role:owl": 1, "messages_empty": 1}
    assert store.meta["first_dropped"] == 1
    dropped, chats, unanswered = store.notices(Path("x"))
    assert dropped.args["dropped"] == 3
    assert chats.what() == "x: 3 answers of 2 conversations to learn, in 2 rows; each ends with <|im_end|>."
    assert unanswered.what().startswith("x: 1 of 2 conversations do not end with an answer")


def test_a_file_without_a_usable_conversation_is_refused(opened: Opener) -> None:
    with pytest.raises(InputError) as refused:
        opened("gemma", messages=[[*ONE[:1], *ONE]])
    assert refused.value.message.code == "chats_none"
    assert "Conversation roles must alternate" in refused.value.message.what()


def test_another_way_to_make_rows_is_another_store(opened: Opener) -> None:
    ways: list[dict[str, Any]] = [
        {}, {"learn": "last"}, {"too_long": "drop"}, {"options": "a=1"}, {"template": "chatml"}, {"limit": 99},
    ]  # fmt: skip
    assert len({opened("smollm2", messages=[TWO], **way).folder for way in ways}) == len(ways)
    assert opened("smollm2", messages=[TWO]).folder == opened("smollm2", messages=[TWO]).folder


@pytest.mark.parametrize("messages", [[1], [["a"]], [1.5]])
def test_a_column_that_is_not_conversations_is_refused(opened: Opener, messages: list[Any]) -> None:
    with pytest.raises(InputError) as refused:
        opened(messages=messages)
    assert refused.value.message.code == "column_not_messages"


def test_a_template_that_never_ends_is_given_up(opened: Opener, tmp_path: Path) -> None:
    file = tmp_path / "endless.jinja"
    file.write_text("{{ messages[0].content }}")
    with stuck_templates(), pytest.raises(InputError) as refused:
        opened(template=str(file), messages=[ONE])
    assert refused.value.message.code == "chat_template_bad"
    assert "may never end" in refused.value.message.what()


def test_chatml_is_text_to_a_tokenizer_without_its_tokens(opened: Opener) -> None:
    store = opened(BASE, template="chatml", messages=[TWO])
    assert learned(store, BASE) == [["Me</s>", "Yours</s>"]]
    assert store.stops == [BASE.tokenizer().eos_token_id]
    assert [note.code for note in store.notices(Path("x"))] == ["chats", "chatml_as_text"]
    own = opened("smollm2", template="chatml", messages=[TWO])
    assert [note.code for note in own.notices(Path("x"))] == ["chats"]


def test_a_template_that_writes_the_date_says_so(opened: Opener, tmp_path: Path) -> None:
    file = tmp_path / "dated.jinja"
    file.write_text("{{ date_string or strftime_now('%d %b %Y') }}" + KINDS["chatml"].text)
    dated = opened(template=str(file), messages=[ONE])
    assert [note.code for note in dated.notices(Path("x"))] == ["chats", "template_dated"]
    fixed = opened(template=str(file), options="date_string=26 Jul 2024", messages=[ONE])
    assert [note.code for note in fixed.notices(Path("x"))] == ["chats"]
    assert str(KINDS["chatml"].tokenizer().decode(fixed.row(0).ids)).startswith("26 Jul 2024<|im_start|>user")
