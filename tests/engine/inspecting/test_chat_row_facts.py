"""How a chat model learns one conversation of a file."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.facts import RowFacts, TokenizerFacts
from engine.contract.messages import InputError
from engine.data.chat.settings import ChatSettings
from engine.data.parquet_rows import RowSource
from engine.inspecting.chat_row_facts import conversation_facts
from tests.engine.data.chat.kinds import KINDS
from tests.engine.data.shapes.conftest import turns

TALK = turns("甲" * 9, "一" * 9, "乙" * 9, "二" * 9, "丙" * 9, "三" * 9)


@pytest.fixture
def seen(tmp_path: Path) -> Any:
    """The facts on one row of a file with these columns, by a kind of template."""

    def look(kind: str, limit: int, row: int, **columns: Any) -> RowFacts:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table(columns), path)
        source = RowSource(path, "train_file", "prompt", "response", chat=ChatSettings())
        return conversation_facts(source, row, KINDS[kind].tokenizer(), TokenizerFacts(100), limit)

    return look


def learned(found: RowFacts) -> list[str]:
    assert found.chat is not None
    return ["".join(row.texts[first:end]) for row in found.chat.rows for first, end in row.learned]


def test_every_answer_is_learned_with_what_ends_it(seen: Any) -> None:
    found = seen("smollm2", 1000, 1, messages=[turns("a", "b"), TALK])
    assert (found.rows, found.chat.messages, found.chat.answers, len(found.chat.rows)) == (2, 6, 3, 1)
    assert learned(found) == [f"{said * 9}<|im_end|>" for said in "一二三"]


def test_what_does_not_fit_is_shown_with_its_roles(seen: Any) -> None:
    found = seen("smollm2", 150, 0, messages=[TALK])
    last = found.chat.rows[-1]
    assert last.left_out > 0
    assert last.lost.startswith(f"user: {'甲' * 9}\nassistant: {'一' * 9}")
    assert last.rewritten is None


def test_a_split_conversation_names_the_message_that_is_rewritten(seen: Any) -> None:
    thinking = [{**turn, "reasoning_content": "想" if turn["role"] == "assistant" else None} for turn in TALK]
    found = seen("qwen3", 1000, 0, messages=[thinking])
    assert [row.rewritten and (row.rewritten.message, row.rewritten.role) for row in found.chat.rows] == [
        None, (1, "assistant"), (3, "assistant")
    ]  # fmt: skip


def test_pairs_are_conversations_too(seen: Any) -> None:
    found = seen("smollm2", 1000, 0, prompt=["Q: 甲\nA: 一\nQ: 乙"], response=["二"], prompt_turns=[[0, 5, 10]])
    assert learned(found) == ["二<|im_end|>"]
    assert (found.form, found.chat.messages, found.chat.answers) == ("pairs", 4, 1)


@pytest.mark.parametrize(
    ("messages", "limit", "reason"),
    [(turns("a"), 100, "no_answer"), (TALK, 20, "conversation_too_long"), ([{"role": "x"}], 9, "unknown_role:x")],
)  # fmt: skip
def test_a_conversation_without_rows_has_its_reason(seen: Any, messages: Any, limit: int, reason: str) -> None:
    found = seen("smollm2", limit, 0, messages=[messages])
    assert (found.refused, found.chat) == (reason, None)


def test_a_row_beyond_the_last_is_an_error(seen: Any) -> None:
    with pytest.raises(InputError) as refused:
        seen("smollm2", 100, 7, messages=[TALK])
    assert refused.value.message.args["last"] == 0
