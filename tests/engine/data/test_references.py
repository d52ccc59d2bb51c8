"""What replies are scored against, read from data files and kept next to the token store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from engine.contract.durable import read_json, write_json
from engine.contract.messages import InputError
from engine.data.chat.settings import ChatSettings
from engine.data.parquet import BATCH_ROWS
from engine.data.parquet_rows import RowSource
from engine.data.references import Reference, references, rows_replied
from engine.data.store_files import REFERENCES
from engine.data.token_store import TokenStore, open_store
from tests.engine.data.chat.kinds import KINDS
from tests.engine.data.shapes.conftest import turns

Opened = tuple[RowSource, TokenStore]
# What decoding would change: spaces, line ends, full width, what the tokenizer does not know, and a long text.
ODD = [" 前后有空格 ", "两行\n\n文字\t", "ＡＢＣ，！", "龘🙂é", "长" * 5000, "hello"]


def answers(source: RowSource, store: TokenStore, count: int) -> list[str]:
    return [one.answer for one in references(source, store, count)]


@pytest.fixture
def opened(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Callable[..., Opened]:
    def make(responses: list[Any], prompts: list[Any] | None = None, **written: Any) -> Opened:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"prompt": prompts or ["问"] * len(responses), "response": responses}), path, **written)
        source = RowSource(path, "validation_file", "prompt", "response")
        return source, open_store(source, tokenizer, 16, tmp_path / "store", lambda _done, _total: None)

    return make


@pytest.mark.parametrize("count", range(len(ODD) + 1))
def test_references_are_the_texts_of_the_file(opened: Callable[..., Opened], count: int) -> None:
    assert answers(*opened(ODD), count) == ODD[:count]


def test_rows_left_out_have_no_reference(opened: Callable[..., Opened]) -> None:
    source, store = opened(["a", None, "", "b", "c", "d"], ["问", "问", "问", "", "问", "问"])
    assert answers(source, store, 3) == ["a", "c", "d"]


def test_each_answer_of_a_conversation_has_its_reference(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    talks = [turns("甲", "1", "乙", "2"), turns("问"), turns("丙", "3", "丁", "4")]
    pq.write_table(pa.table({"messages": talks}), tmp_path / "rows.parquet")
    source = RowSource(tmp_path / "rows.parquet", "validation_file", "prompt", "response")
    store = open_store(source, tokenizer, 64, tmp_path / "store", lambda _done, _total: None)
    assert store.rows.tolist() == [0, 0, 2, 2]
    assert answers(source, store, 4) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_columns_of_every_text_type_are_read(opened: Callable[..., Opened], kind: pa.DataType) -> None:
    assert answers(*opened(pa.array(ODD, kind)), 6) == ODD


def test_rows_are_found_in_any_batch_and_row_group(opened: Callable[..., Opened]) -> None:
    texts = [f"回答{number}" for number in range(2 * BATCH_ROWS + 5)]
    source, store = opened(texts, row_group_size=700)
    assert answers(source, store, len(texts)) == texts


def test_references_are_read_from_the_file_once(opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = opened(ODD)
    references(source, store, 4)
    with monkeypatch.context() as closed:
        closed.setattr(RowSource, "open", lambda _self: pytest.fail("the file was read again"))
        assert answers(source, store, 4) == ODD[:4]
        assert answers(source, store, 2) == ODD[:2]
    assert answers(source, store, 6) == ODD  # more than were kept


@pytest.mark.parametrize("damage", ["text", "form", "gone"])
def test_damaged_references_are_read_again(opened: Callable[..., Opened], damage: str) -> None:
    source, store = opened(ODD)
    references(source, store, 6)
    path = store.folder / REFERENCES
    kept = read_json(path)
    if damage == "gone":
        path.unlink()
    elif damage == "form":
        path.write_text('{"texts": [1, 2, 3, 4, 5, 6]}')
    else:
        write_json(path, {**kept, "texts": [*kept["texts"][:-1], "hallo"]})
    assert answers(source, store, 6) == ODD


def test_references_work_in_a_read_only_folder(opened: Callable[..., Opened]) -> None:
    source, store = opened(ODD)
    (store.folder / REFERENCES).mkdir()
    assert answers(source, store, 6) == ODD


def test_a_file_that_lost_rows_since_is_refused(opened: Callable[..., Opened]) -> None:
    source, store = opened(ODD)
    pq.write_table(pa.table({"prompt": ["问"], "response": ["a"]}), source.path)
    with pytest.raises(InputError, match=r"rows\.parquet"):
        references(source, store, 6)


@pytest.mark.parametrize(
    ("asked", "count"), [((0, 0), 17), ((5, 0), 5), ((0, 3), 3), ((5, 9), 5), ((99, 99), 17), ((2, 1), 1)]
)
def test_only_references_of_generated_replies_are_read(scored_config: Any, asked: tuple[int, int], count: int) -> None:
    scored_config = type(scored_config)(**{**vars(scored_config), "eval_rows": asked[0], "bleu_rows": asked[1]})
    assert rows_replied(scored_config, 17) == count


def test_references_of_conversations_are_the_last_answers_of_their_rows(tmp_path: Path) -> None:
    talks = [["Hi", " Hello\n", "Who?", "Me"], ["", "x"], ["One", "1", "Two", "2", "Three", "3"]]
    messages = [
        [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(talk)] for talk in talks
    ]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"messages": messages}), path)
    for kind, expected in (("chatml", ["Me", "3"]), ("qwen3", [" Hello\n", "Me", "1", "2", "3"])):
        chat = ChatSettings(options="enable_thinking=false")
        source = RowSource(path, "validation_file", "prompt", "response", chat=chat)
        store = open_store(source, KINDS[kind].tokenizer(), 999, tmp_path / kind, lambda _done, _total: None)
        assert answers(source, store, len(store)) == expected
        (store.folder / REFERENCES).unlink()
        assert answers(source, store, 2) == expected[:2]
        asked = {"Me": "Who?", "3": "Three", " Hello\n": "Hi", "1": "One", "2": "Two"}
        assert references(source, store, len(store)) == [Reference(one, asked[one]) for one in expected]
