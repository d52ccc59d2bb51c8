"""Prompts of conversations that are too long lose their oldest turns, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from engine.contract.glances import Form
from engine.contract.messages import InputError
from engine.contract.requests import ImportRequest
from engine.data import token_store
from engine.data.importing.convert import import_files
from engine.data.parquet_rows import RowSource
from engine.data.token_store import TokenStore, open_store
from tests.engine.data.conftest import contents

SYSTEM, SAID = "系统", ["你好你好", "谢谢谢谢", "今天天气", "很好很好", "怎么样？"]
WHOLE = "系统\nQ: 你好你好\nA: 谢谢谢谢\nQ: 今天天气\nA: 很好很好\nQ: 怎么样？"
EOS = 1
Open = Callable[..., TokenStore]


def imported(folder: Path, form: Form) -> RowSource:
    """The file that an import writes of one conversation of three answers, the last with four earlier turns."""
    path = folder / "talk.json"
    texts = [*SAID, "是"]
    talk = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]
    path.write_text(json.dumps([{"system": SYSTEM, "conversations": talk}]))
    target = str(folder / f"{form}.parquet")
    import_files(ImportRequest((str(path),), train=target, valid_ratio=0.0, form=form), lambda *_: None)
    return RowSource(folder / f"{form}.parquet", "train_file", "prompt", "response")


@pytest.fixture
def source(tmp_path: Path) -> RowSource:
    """The conversation as pairs."""
    return imported(tmp_path, "pairs")


@pytest.fixture
def open_at(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> Open:
    """The store of a source at a limit; `reported` is called while it is made."""

    def at(source: RowSource, limit: int, reported: Callable[[int, int], object] = lambda *_: None) -> TokenStore:
        return open_store(
            source, tokenizer, limit, tmp_path / "store", lambda done, total: (reported(done, total), None)[1]
        )

    return at


def candidates() -> list[str]:
    """The whole prompt and those without its oldest turns, written out by hand."""
    marked = [f"{'QA'[place % 2]}: {text}" for place, text in enumerate(SAID)]
    return ["\n".join([SYSTEM, *marked[first:]]) for first in range(4)] + [f"{SYSTEM}\n{SAID[-1]}"]


@pytest.mark.parametrize("lost", range(5))
def test_a_conversation_gives_the_rows_of_its_pairs(
    source: RowSource, open_at: Open, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, lost: int
) -> None:
    limit = len(tokenizer(candidates()[lost])["input_ids"])
    pairs, whole = open_at(source, limit), open_at(imported(tmp_path, "messages"), limit)
    assert contents(whole) == contents(pairs)
    assert [whole.meta[f"turns_{name}"] for name in ("rows", "left_out", "longest")] == [
        pairs.meta[f"turns_{name}"] for name in ("rows", "left_out", "longest")
    ]


def row_of(source: RowSource, prompt: str) -> int:
    """The row of a prompt in the file."""
    found: int = pq.read_table(source.path)["prompt"].to_pylist().index(prompt)
    return found


def changed(source: RowSource, prompt: str | None = None, starts: list[Any] | None = None) -> RowSource:
    """The file with another prompt or other places in the row with four earlier turns."""
    rows, row = pq.read_table(source.path).to_pylist(), row_of(source, WHOLE)
    rows[row] |= {"prompt": prompt or WHOLE} | ({"prompt_turns": starts} if starts else {})
    pq.write_table(pa.Table.from_pylist(rows), source.path)
    return source


@pytest.mark.parametrize("lost", range(5))
def test_a_long_prompt_loses_as_few_turns_as_possible(
    source: RowSource, open_at: Open, tokenizer: PreTrainedTokenizerBase, lost: int
) -> None:
    ids = [tokenizer(text)["input_ids"] for text in candidates()]
    store = open_at(source, len(ids[lost]))
    at = store.rows.tolist().index(row_of(source, WHOLE))
    assert store.prompt(at).tolist() == ids[lost]
    assert store.meta["turns_left_out"] >= lost
    codes = [notice.code for notice in store.notices(source.path)]
    assert codes == ["turns_left_out"] * bool(lost)


def test_dropped_turns_are_counted_in_both_languages(
    source: RowSource, open_at: Open, tokenizer: PreTrainedTokenizerBase
) -> None:
    limit = len(tokenizer(candidates()[3])["input_ids"])
    (notice,) = open_at(source, limit).notices(source.path)
    assert f"4 earlier turns left out of 2 of 3 rows, to fit {limit} tokens" in notice.what("en")
    assert f"共 3 行，其中 2 行为不超过 {limit} 个词元而略去了此前的 4 轮对话" in notice.what("zh")


def test_a_question_that_is_too_long_by_itself_is_cut_at_its_end(
    source: RowSource, open_at: Open, tokenizer: PreTrainedTokenizerBase
) -> None:
    store = open_at(source, 5)
    at = store.rows.tolist().index(row_of(source, WHOLE))
    assert store.prompt(at).tolist() == [*tokenizer(candidates()[-1])["input_ids"][:4], EOS]
    assert [notice.code for notice in store.notices(source.path)] == ["turns_left_out", "rows_truncated"]


def test_another_limit_remakes_only_a_store_with_turns(source: RowSource, open_at: Open) -> None:
    reported: list[tuple[int, int]] = []
    for limit in (30, 20, 30, 20):
        open_at(source, limit, lambda *what: reported.append(what))
    assert len(reported) == 2
    pq.write_table(pq.read_table(source.path, columns=["prompt", "response"]), source.path)
    reported.clear()
    for limit in (30, 20):
        open_at(source, limit, lambda *what: reported.append(what))
    assert len(reported) == 1


@pytest.mark.parametrize("column", [None, pa.array(["0", "1", "2"])], ids=["without", "of another kind"])
def test_prompts_without_known_turns_are_cut_at_their_end(
    source: RowSource, open_at: Open, tokenizer: PreTrainedTokenizerBase, column: pa.Array | None
) -> None:
    table = pq.read_table(source.path, columns=["prompt", "response"])
    pq.write_table(table if column is None else table.append_column("prompt_turns", column), source.path)
    store = open_at(source, 20)
    at = store.rows.tolist().index(row_of(source, WHOLE))
    assert store.prompt(at).tolist() == [*tokenizer(WHOLE)["input_ids"][:19], EOS]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_(pa.uint16())], ids=str)
def test_a_rewritten_imported_file_is_shortened_too(source: RowSource, open_at: Open, kind: pa.DataType) -> None:
    whole = open_at(source, 20)
    table = pq.read_table(source.path)
    pq.write_table(table.set_column(2, "prompt_turns", table["prompt_turns"].cast(kind)), source.path)
    again = open_at(source, 20)
    assert again.folder != whole.folder
    assert [again.prompt(row).tolist() for row in range(3)] == [whole.prompt(row).tolist() for row in range(3)]


EDITS: dict[str, dict[str, Any]] = {
    "a word before the turns": {"prompt": f"新{WHOLE}"},
    "a mark gone": {"prompt": WHOLE.replace("A: 很好", "很好")},
    "the last place gone": {"starts": [3, 11, 19, 27]},
    "places out of order": {"starts": [11, 3, 19, 27, 35]},
    "a place before the text": {"starts": [-1, 11, 19, 27, 35]},
    "a place beyond the text": {"starts": [3, 11, 19, 27, 900]},
    "no number": {"starts": [3, None, 19, 27, 35]},
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_prompt_edited_after_its_import_is_refused(
    source: RowSource, open_at: Open, tmp_path: Path, edit: str
) -> None:
    row = row_of(source, WHOLE)
    with pytest.raises(InputError) as refused:
        open_at(changed(source, **EDITS[edit]), 1000)
    message = refused.value.message
    assert (message.code, message.args["row"], message.args["column"]) == ("turns_elsewhere", row, "prompt_turns")
    assert not (tmp_path / "store").exists()


def test_a_store_of_the_previous_format_is_rebuilt(
    source: RowSource, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_store, "FORMAT", token_store.FORMAT - 1)
    before = open_at(source, 1000)
    monkeypatch.undo()
    after = open_at(source, 1000)
    assert after.folder != before.folder
    for part in ("prompt", "label"):
        assert [getattr(after, part)(row).tolist() for row in range(3)] == [
            getattr(before, part)(row).tolist() for row in range(3)
        ]
